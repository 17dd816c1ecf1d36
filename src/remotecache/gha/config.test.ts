import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { actionsToken } from '../../testing/actions-cache.ts';
import { ghaConfig, writeScope } from './config.ts';
import { ENTRY_VERSION } from './service.ts';

const scopes = [
  { Scope: 'refs/pull/7/merge', Permission: 3 },
  { Scope: 'refs/heads/main', Permission: 1 },
];
const token = actionsToken(scopes);
const url = 'https://cache.example/x/';

test('attributes and their defaults', () => {
  const config = ghaConfig({ token, url });
  assert.equal(config.scope, 'buildkit');
  assert.equal(config.url.href, url);
  assert.equal(config.timeoutMs, 600_000);
  assert.equal(config.listing, undefined);
  assert.deepEqual(config.scopes, [
    { name: 'refs/pull/7/merge', writable: true },
    { name: 'refs/heads/main', writable: false },
  ]);
  assert.equal(writeScope(config), 'refs/pull/7/merge');
  const more = ghaConfig({ token, url, scope: 's', timeout: '1m30s', repository: 'o/r', ghtoken: 'g' });
  assert.equal(more.scope, 's');
  assert.equal(more.timeoutMs, 90_000);
  assert.deepEqual(more.listing, { repository: 'o/r', token: 'g' });
});

test('the version of the service, and which address is its', () => {
  const of = (attrs: Record<string, string>): string => {
    const config = ghaConfig({ token, ...attrs });
    return `${config.version} ${config.url.host}`;
  };
  const both = { url: 'http://one/', url_v2: 'http://two/' };
  assert.equal(of(both), '2 two');
  assert.equal(of({ ...both, version: '1' }), '1 one');
  assert.equal(of({ ...both, version: '2' }), '2 two');
  assert.equal(of({ url: both.url }), '1 one');
  assert.equal(of({ url: both.url, version: '2' }), '2 one');
  const results = 'results-receiver.actions.githubusercontent.com';
  assert.equal(of({ url: `https://${results}/` }), `2 ${results}`);
  assert.throws(
    () => of({ url_v2: 'http://two/', version: '1' }),
    /^BuildError: url not set for github actions/,
  );
});

test('what cannot be used is said, without the token', () => {
  const fails = (attrs: Record<string, string>, message: RegExp): void =>
    assert.throws(
      () => ghaConfig(attrs),
      (error: Error) => message.test(error.message) && !error.message.includes('eyJ'),
      String(message),
    );
  fails({ url }, /^token not set for github actions cache$/);
  fails({ token }, /^url not set for github actions cache$/);
  fails({ token, url: 'cache.example' }, /^invalid url of github actions cache: /);
  fails({ token, url, version: 'two' }, /^failed to parse api version "two", expected positive integer/);
  fails({ token, url, timeout: 'long' }, /^failed to parse timeout .*: time: invalid duration "long"$/);
  fails({ token: 'ghs_x', url }, /^token is malformed: token contains an invalid number of segments$/);
  fails({ token: 'eyJ.eyJ.eyJ', url }, /^token is malformed: its claims are no JSON object$/);
  fails({ token: actionsToken([], { ac: undefined }), url }, /^invalid token without access controls$/);
  fails(
    { token: actionsToken([], { ac: '{' }), url },
    /^failed to parse token access controls: no JSON list$/,
  );
  fails({ token: actionsToken([], { exp: 1000 }), url }, /^cache token expired at 1970-01-01T00:16:40/);
  fails({ token: actionsToken([], { exp: 'soon' }), url }, /^invalid token without expiration time$/);
  fails({ token: actionsToken([], { nbf: 4e9 }), url }, /^invalid token with future issue time 2096-/);
});

test('the version of entries is the one that others look for', () => {
  assert.equal(ENTRY_VERSION, createHash('sha256').update('|go-actionscache-1.0').digest('hex'));
});
