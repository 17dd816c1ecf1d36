// Processes beside the first one of a container, terminals and signals, with the real runtime.
import assert from 'node:assert/strict';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { createLogger } from '../base/log.ts';
import { mountsUnder } from '../sys/mountinfo.ts';
import { enterMountNamespace } from '../sys/namespace.ts';
import { createRuntimeExecutor } from './executor.ts';
import { hostNetwork, noNetwork } from './network.ts';
import { exitCodeOf, type Mountable, type ProcessControl, type ProcessMeta, type RunIo } from './types.ts';

await enterMountNamespace({ argv: process.argv, execArgv: process.execArgv, env: process.env });

const base = mkdtempSync(join(tmpdir(), 'exec-'));
const rootDir = join(base, 'image');
mkdirSync(join(rootDir, 'bin'), { recursive: true });
mkdirSync(join(rootDir, 'etc'));
copyFileSync('/bin/busybox', join(rootDir, 'bin/busybox'));
for (const name of ['sh', 'cat', 'id', 'sleep', 'stty', 'kill', 'env', 'pwd', 'tty'])
  symlinkSync('busybox', join(rootDir, 'bin', name));
writeFileSync(join(rootDir, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n');
writeFileSync(join(rootDir, 'etc/group'), 'root:x:0:\nann:x:1001:\n');

const log = createLogger({ level: 'warn', format: 'text', write: () => {} });
const dir = join(base, 'executor');
const networks = { unset: hostNetwork, host: hostNetwork, none: noNetwork };
const executor = createRuntimeExecutor({ dir, searchPath: process.env.PATH ?? '', networks, log });
const root: Mountable = {
  mount: async () => ({
    mounts: [{ type: 'bind', source: rootDir, options: ['rbind', 'rw'] }],
    release: async () => {},
  }),
};

after(() => rmSync(base, { recursive: true }));
afterEach(() => {
  assert.deepEqual(mountsUnder(base), [], 'mounts are left');
  assert.deepEqual(
    readdirSync(dir).filter((name) => name.startsWith('c')),
    [],
    'bundles are left',
  );
});

interface Running {
  readonly out: () => string;
  readonly until: (text: string) => Promise<void>;
  readonly control: Promise<ProcessControl>;
  readonly done: Promise<number>;
}

/** Follows a process whose io is given to `start`. */
function follow(start: (io: RunIo) => Promise<void>, more: Partial<RunIo> = {}): Running {
  let out = '';
  const waiting: { text: string; resolve: () => void }[] = [];
  const started = Promise.withResolvers<ProcessControl>();
  const add = (chunk: Uint8Array): void => {
    out += Buffer.from(chunk).toString();
    for (const one of waiting) if (out.includes(one.text)) one.resolve();
  };
  const signal = AbortSignal.timeout(60_000);
  const io = { signal, onStdout: add, onStderr: add, onStarted: started.resolve, ...more };
  const done = start(io).then(
    () => 0,
    (error: unknown) => {
      const code = exitCodeOf(error);
      if (code === undefined) throw error;
      return code;
    },
  );
  const until = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      waiting.push({ text, resolve });
      add(Buffer.alloc(0));
      done.then((code) => reject(new Error(`ended with ${code} before it said ${text}: ${out}`)), reject);
    });
  return { out: () => out, until, control: started.promise, done };
}

function run(id: string, script: string, meta: Partial<ProcessMeta> = {}, io: Partial<RunIo> = {}): Running {
  const process: ProcessMeta = { args: ['sh', '-c', script], env: ['FIRST=1'], cwd: '/', ...meta };
  return follow(
    (own) => executor.run({ id, root: { source: root, readonly: false }, mounts: [], meta: process }, own),
    io,
  );
}

function exec(id: string, script: string, meta: Partial<ProcessMeta> = {}, io: Partial<RunIo> = {}): Running {
  return follow(
    (own) => executor.exec(id, { args: ['sh', '-c', script], env: [], cwd: '/', ...meta }, own),
    io,
  );
}

/** Input that is given by and by. */
function input(): { source: AsyncIterable<Uint8Array>; say: (text: string) => void; end: () => void } {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>(undefined, {
    highWaterMark: 100,
  });
  const writer = writable.getWriter();
  return {
    source: readable,
    say: (text) => void writer.write(Buffer.from(text)).catch(() => {}),
    end: () => void writer.close().catch(() => {}),
  };
}

test('further processes join the container with an environment, directory and user of their own', async () => {
  const stdin = input();
  const first = run('c1', 'cat', { user: 'ann' }, { stdin: stdin.source });
  const second = exec('c1', 'id -u; pwd; echo first=$FIRST second=$SECOND; exit 7', {
    env: ['SECOND=2'],
    cwd: '/etc',
  });
  assert.equal(await second.done, 7);
  assert.equal(second.out(), '1000\n/etc\nfirst= second=2\n');
  const third = exec('c1', 'id -u; cat', { user: 'root' }, { stdin: new Blob(['given']).stream() });
  assert.equal(await third.done, 0);
  assert.equal(third.out(), '0\ngiven');
  stdin.end();
  assert.equal(await first.done, 0);
});

test('the others end with the first process; who comes later is told', async () => {
  const stdin = input();
  const first = run('c2', 'cat', {}, { stdin: stdin.source });
  const second = exec('c2', 'echo up; sleep 1000');
  await second.until('up');
  stdin.end();
  assert.equal(await first.done, 0);
  assert.notEqual(await second.done, 0);
  await assert.rejects(exec('c2', 'true').done, /container c2 not found/);
});

test('a process that waits for a container that fails hears of it', async () => {
  const first = run('c3', 'true', { args: ['/nothing'] });
  const second = exec('c3', 'true');
  second.done.catch(() => {});
  assert.notEqual(await first.done, 0);
  assert.notEqual(await second.done.catch(() => 255), 0);
});

test('signals reach the process they are for', async () => {
  const stdin = input();
  const first = run('c4', "trap 'echo first got it; exit 5' HUP; echo up; while :; do sleep 0.1; done");
  await first.until('up');
  const second = exec('c4', "trap 'echo second got it; exit 6' INT; echo up; while :; do sleep 0.1; done");
  await second.until('up');
  await (await second.control).signal('SIGINT');
  assert.equal(await second.done, 6);
  const third = exec('c4', 'echo up; sleep 1000');
  await third.until('up');
  await (await third.control).signal('SIGKILL');
  assert.equal(await third.done, 137);
  await (await first.control).signal('SIGHUP');
  assert.equal(await first.done, 5);
  stdin.end();
});

test('aborting ends a further process alone', async () => {
  const stdin = input();
  const first = run('c5', 'cat', {}, { stdin: stdin.source });
  const abort = new AbortController();
  const second = exec('c5', 'echo up; sleep 1000', {}, { signal: abort.signal });
  await second.until('up');
  abort.abort();
  assert.notEqual(await second.done, 0);
  assert.equal(await exec('c5', 'true').done, 0);
  stdin.end();
  assert.equal(await first.done, 0);
});

test('what a process writes to its terminal just before its end is not lost, however busy the machine is', async () => {
  const outer = input();
  const first = run('c7', 'cat', {}, { stdin: outer.source });
  const lines = Array.from({ length: 40 }, (_, i) => `line ${i}\r\n`).join('');
  const script = 'i=0; while [ $i -lt 40 ]; do echo "line $i"; i=$((i+1)); done';
  const processes = Array.from({ length: 24 }, () => exec('c7', script, { tty: true }));
  for (const process of processes) {
    assert.equal(await process.done, 0);
    assert.equal(process.out(), lines);
  }
  outer.end();
  assert.equal(await first.done, 0);
});

for (const kind of ['first', 'further'] as const)
  test(`a terminal for the ${kind} process: all output comes on stdout, it has a size that changes`, async () => {
    const stdin = input();
    const begin = kind === 'first' ? run : exec;
    const outer = kind === 'first' ? undefined : input();
    const first = outer && run('c6', 'cat', {}, { stdin: outer.source });
    const size = 'until [ "$(stty size)" = "33 77" ]; do sleep 0.05; done; echo sized';
    const script = `tty; echo error >&2; ${size}; while read x; do echo "got $x"; done`;
    const process = begin('c6', script, { tty: true }, { stdin: stdin.source });
    await process.until('error\r\n');
    assert.match(process.out(), /\/dev\/(pts\/0|console)/);
    await (await process.control).resize(33, 77);
    await process.until('sized');
    stdin.say('hello\n');
    await process.until('got hello');
    stdin.say('\u0004');
    assert.equal(await process.done, 0);
    outer?.end();
    assert.equal((await first?.done) ?? 0, 0);
  });
