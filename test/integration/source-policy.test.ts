// Rules on sources that come with a request.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { Daemon, Registry, TempDir } from './harness.ts';

const dir = new TempDir();
let daemon: Daemon;
let registry: Registry;
let server: Server;
let base: string;
const served: string[] = [];

before(async () => {
  server = createServer((request, response) => {
    served.push(request.url ?? '');
    response.end(request.url);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({ config: registry.config });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  server?.close();
  dir[Symbol.dispose]();
});

/** Builds a Dockerfile below the policy. */
async function build(name: string, dockerfile: string, policy: unknown) {
  dir.write({ [`${name}/Dockerfile`]: dockerfile, [`${name}.json`]: JSON.stringify(policy) });
  const folder = dir.join(name);
  const flags = [
    '--source-policy-file',
    dir.join(`${name}.json`),
    '--output',
    `type=local,dest=${folder}-out`,
  ];
  const result = await daemon.buildctl(['build', folder, '--progress=plain', ...flags]);
  return { ...result, read: (file: string) => readFileSync(`${folder}-out/${file}`, 'utf8') };
}

test('downloads are converted, also several times, and denied', async () => {
  const dockerfile = `FROM scratch\nADD ${base}/old/f /f\n`;
  const wildcard = { identifier: `${base}/old/*` };
  const convert = [
    { action: 'CONVERT', selector: wildcard, updates: { identifier: `${base}/new/$1` } },
    {
      action: 'CONVERT',
      selector: { identifier: '(.*)/new/(.)$', match_type: 'REGEX' },
      updates: { identifier: '${1}/newest/$2' },
    },
    { action: 'DENY', selector: { identifier: '*' } },
    ...['http://*/newest/*', 'local://*'].map((identifier) => ({
      action: 'ALLOW',
      selector: { identifier },
    })),
  ];
  const converted = await build('convert', dockerfile, { version: 1, rules: convert });
  assert.equal(converted.code, 0, converted.stderr);
  assert.equal(converted.read('f'), '/newest/f');
  assert.deepEqual([...new Set(served)], ['/newest/f']);

  const denied = await build('deny', dockerfile, { rules: [{ action: 'DENY', selector: wildcard }] });
  assert.notEqual(denied.code, 0);
  assert.match(denied.stderr, /source "http:.*\/old\/f" denied by policy: source denied by policy/);
  assert.deepEqual([...new Set(served)], ['/newest/f']);
});

test('images of a Dockerfile are denied when they are looked up, and replaced by others', async () => {
  const deny = [{ action: 'DENY', selector: { identifier: 'docker-image://*library/busybox:*' } }];
  const denied = await build('image', 'FROM busybox\n', { rules: deny });
  assert.match(
    denied.stderr,
    /could not resolve image due to policy: source "docker-image:\/\/docker.io\/library\/busybox:latest" denied by policy/,
  );
  const to = { identifier: 'docker-image://docker.io/library/busybox:latest' };
  const move = [{ action: 'CONVERT', selector: { identifier: 'docker-image://*absent:*' }, updates: to }];
  const moved = await build('moved', 'FROM absent:1\nRUN echo moved > /m\n', { rules: move });
  assert.equal(moved.code, 0, moved.stderr);
  assert.equal(moved.read('m'), 'moved\n');
});

test('policies that cannot be read are refused', async () => {
  const regex = { identifier: '(', match_type: 'REGEX' };
  const wrong = await build('wrong', 'FROM scratch\n', { rules: [{ action: 'DENY', selector: regex }] });
  assert.match(wrong.stderr, /error matching source policy: error parsing regexp: missing closing \)/);
  const none = await build('none', 'FROM scratch\n', { rules: [{ action: 'DENY' }] });
  assert.match(none.stderr, /invalid nil selector in policy/);
  const text = await build('text', 'FROM scratch\n', { rules: [{ action: 'FORBID' }] });
  assert.match(
    text.stderr,
    /failed to unmarshal source-policy-file ".*text.json": rules\[0\].action must be ALLOW/,
  );
});
