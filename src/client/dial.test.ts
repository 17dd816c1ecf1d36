import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { hasCode } from '../base/errors.ts';
import { Code } from '../base/errors.ts';
import { dialCommand } from './command-stream.ts';
import { csvFields } from './csv.ts';
import { dial } from './dial.ts';
import { helperCommand } from './helpers.ts';
import { bytesShort, bytesText } from './units.ts';

const never = new AbortController().signal;

test('helper schemes become commands', () => {
  const command = (address: string): string => helperCommand(address).join(' ');
  assert.equal(command('docker-container://Name_1'), 'docker exec -i Name_1 buildctl dial-stdio');
  assert.equal(
    command('docker-container://n?context=ctx'),
    'docker --context=ctx exec -i n buildctl dial-stdio',
  );
  assert.equal(command('podman-container://n'), 'podman exec -i n buildctl dial-stdio');
  assert.equal(
    command('nerdctl-container://n?namespace=ns'),
    'nerdctl --namespace=ns exec -i n buildctl dial-stdio',
  );
  assert.equal(
    command('kube-pod://p?context=c&namespace=ns&container=k'),
    'kubectl --context=c --namespace=ns exec --container=k -i p -- buildctl dial-stdio',
  );
  assert.equal(
    command('ssh://me@host:2222/run/x.sock'),
    'ssh -l me -p 2222 -- host buildctl --addr unix:///run/x.sock dial-stdio',
  );
  assert.equal(command('ssh://host'), 'ssh -- host buildctl dial-stdio');
});

test('addresses that make no sense, or would be taken for options, are refused', async () => {
  for (const bad of ['docker-container://-v', 'ssh://u:pw@h', 'ssh://-oX@h', 'gopher://x', 'ssh://h/a;b'])
    assert.throws(() => helperCommand(bad), bad);
  await assert.rejects(dial('/run/x.sock', {}, never), /you meant unix:\/\/\/run\/x\.sock \?/);
  await assert.rejects(dial('tcp://host', {}, never), /no port/);
  await assert.rejects(dial('tcp://h:1', { tls: { cert: 'x' } }, never), /both are needed/);
});

test('nobody there is Unavailable, and says where', async () => {
  await assert.rejects(dial('unix:///nowhere/x.sock', {}, never), (error) => {
    assert.ok(hasCode(error, Code.unavailable));
    assert.match(
      (error as Error).message,
      /dial unix \/nowhere\/x\.sock: connect: no such file or directory/,
    );
    return true;
  });
});

test('a command is a byte stream; what it says as it fails is the error', async () => {
  const echo = dialCommand(['cat']);
  echo.write('ping');
  const [chunk] = await Array.fromAsync(
    (async function* () {
      for await (const data of echo) {
        yield String(data);
        echo.end();
      }
    })(),
  );
  assert.equal(chunk, 'ping');
  const failing = dialCommand(['sh', '-c', 'echo no such container >&2; exit 1']);
  await assert.rejects(Array.fromAsync(failing), /command sh -c .* failed: no such container/);
  await assert.rejects(
    Array.fromAsync(dialCommand(['no-such-command-x'])),
    /failed: spawn no-such-command-x/,
  );
});

test('aborting gives up a dial', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bkt-'));
  const server = createServer();
  await new Promise<void>((done) => server.listen(join(dir, 's'), done));
  try {
    await assert.rejects(dial(`unix://${dir}/s`, {}, AbortSignal.abort(new Error('enough'))), /enough/);
  } finally {
    server.close();
    rmSync(dir, { recursive: true });
  }
});

test('comma-separated values', () => {
  assert.deepEqual(csvFields('a=1,"b=2,3","c=""x"""'), ['a=1', 'b=2,3', 'c="x"']);
  assert.deepEqual(csvFields('a,'), ['a', '']);
  assert.deepEqual(csvFields(''), []);
  for (const bad of ['a"b', '"a', '"a"b']) assert.throws(() => csvFields(bad), bad);
});

test('sizes', () => {
  assert.deepEqual([0, 999, 1000, 1_234_567].map(bytesText), ['0B', '999B', '1.00kB', '1.23MB']);
  assert.deepEqual([10e9, 187.5e6, 12].map(bytesShort), ['10GB', '187.5MB', '12B']);
});
