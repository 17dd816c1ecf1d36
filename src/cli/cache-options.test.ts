import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseExportCache, parseImportCache } from './cache-options.ts';

test('caches are read in the present and the old form', () => {
  const warnings: string[] = [];
  const warn = (text: string): void => void warnings.push(text);
  assert.deepEqual(parseExportCache('type=registry,REF=a/b,mode=max,"x=1,2"', warn), {
    type: 'registry',
    attrs: { ref: 'a/b', mode: 'max', x: '1,2' },
  });
  assert.deepEqual(parseExportCache('type=inline', warn), { type: 'inline', attrs: { mode: 'min' } });
  assert.deepEqual(parseImportCache('type=local,src=/x', warn), { type: 'local', attrs: { src: '/x' } });
  assert.deepEqual(warnings, []);
  assert.deepEqual(parseExportCache('a/b:c', warn), {
    type: 'registry',
    attrs: { ref: 'a/b:c', mode: 'min' },
  });
  assert.deepEqual(parseImportCache('a/b:c', warn), { type: 'registry', attrs: { ref: 'a/b:c' } });
  assert.match(warnings.join(), /--export-cache <ref> is deprecated.*--import-cache <ref> is deprecated/);
  assert.throws(() => parseExportCache('ref=a,subtype=b', warn), /--export-cache requires type=<type>/);
  assert.throws(() => parseImportCache('type=local,src', warn), /invalid value src/);
});

test('type=gha takes from the environment of GitHub Actions what is not said', () => {
  const warn = (): void => {};
  const attrs = (text: string, env: Record<string, string>) =>
    parseImportCache(`type=gha${text}`, warn, env).attrs;
  const first = { ACTIONS_CACHE_URL: 'http://one', ACTIONS_RUNTIME_TOKEN: 't' };
  assert.deepEqual(attrs('', first), { url: 'http://one', token: 't' });
  assert.deepEqual(attrs(',url=http://own,token=u,scope=s', first), {
    url: 'http://own',
    token: 'u',
    scope: 's',
  });
  const both = { ...first, ACTIONS_RESULTS_URL: 'http://two' };
  assert.deepEqual(attrs('', both), { url: 'http://one', token: 't' });
  const second = { ...both, ACTIONS_CACHE_SERVICE_V2: 'true' };
  assert.deepEqual(attrs('', second), { url_v2: 'http://two', url: 'http://one', token: 't' });
  assert.deepEqual(attrs(',version=1', second), { version: '1', url: 'http://one', token: 't' });
  assert.deepEqual(attrs(',version=2', both), {
    version: '2',
    url_v2: 'http://two',
    url: 'http://one',
    token: 't',
  });
  assert.equal(
    attrs('', { ACTIONS_RESULTS_URL: 'http://two', ACTIONS_RUNTIME_TOKEN: 't' }).url,
    'http://two',
  );
  assert.deepEqual(parseExportCache('type=gha', warn, first).attrs, {
    url: 'http://one',
    token: 't',
    mode: 'min',
  });
  assert.throws(
    () => attrs('', { ACTIONS_RUNTIME_TOKEN: 't' }),
    /type gha requires url parameter to be set$/,
  );
  assert.throws(
    () => attrs(',url=http://one', {}),
    /type gha requires token parameter or \$ACTIONS_RUNTIME_TOKEN$/,
  );
});
