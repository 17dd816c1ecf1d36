import assert from 'node:assert/strict';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ChildProcess, findExecutable, killProcess, spawn } from './spawn.ts';

const base = mkdtempSync(join(tmpdir(), 'spawn-'));
after(() => rmSync(base, { recursive: true }));

async function text(stream: ChildProcess['stdout']): Promise<string> {
  let all = '';
  for await (const chunk of stream!) all += String(chunk);
  return all;
}

function sh(script: string, more: Partial<Parameters<typeof spawn>[0]> = {}): ChildProcess {
  const env = { PATH: '/usr/bin:/bin' };
  return spawn({ file: '/bin/sh', args: ['sh', '-c', script], env, stdout: 'pipe', stderr: 'pipe', ...more });
}

test('streams, arguments, environment, working directory and exit code', async () => {
  const child = sh('cat; echo "$A $0 $(pwd)"; echo err >&2; exit 7', {
    args: ['sh', '-c', 'cat; echo "$A $0 $(pwd)"; echo err >&2; exit 7', 'zero'],
    env: { A: 'é b', PATH: '/usr/bin:/bin' },
    cwd: base,
    stdin: 'pipe',
  });
  child.stdin!.end('input ');
  const [out, err, status] = await Promise.all([text(child.stdout), text(child.stderr), child.exited]);
  assert.equal(out, `input é b zero ${base}\n`);
  assert.equal(err, 'err\n');
  assert.deepEqual(status, { code: 7, signal: undefined });
  assert.equal(child.kill('SIGKILL'), false);
});

test('large output passes whole', async () => {
  const child = sh('head -c 3000000 /dev/zero');
  let total = 0;
  for await (const chunk of child.stdout!) total += (chunk as Buffer).length;
  child.stderr!.destroy();
  assert.equal(total, 3_000_000);
  await child.exited;
});

test('the child has default signals, no other descriptors and its own session', async () => {
  process.on('SIGUSR2', () => {});
  const leak = openSync(base, 'r');
  const child = sh(
    'grep -E "^Sig(Blk|Ign)" /proc/self/status; ls -l /proc/self/fd; cut -d" " -f6 /proc/self/stat',
    {
      setsid: true,
    },
  );
  const out = await text(child.stdout);
  child.stderr!.destroy();
  closeSync(leak);
  process.removeAllListeners('SIGUSR2');
  for (const set of ['SigBlk', 'SigIgn']) assert.match(out, new RegExp(`${set}:\\s0+\\n`));
  assert.ok(!out.includes(base), out);
  assert.equal(out.match(/ -> /g)?.length, 4, out);
  assert.equal(out.trim().split('\n').at(-1), String(child.pid));
  await child.exited;
});

test('descriptors are handed over by number, even when numbers cross', async () => {
  const a = openSync(join(base, 'a'), 'w+');
  const b = openSync(join(base, 'b'), 'w+');
  writeSync(a, 'A');
  writeSync(b, 'B');
  const script = `cat /proc/self/fd/3 /proc/self/fd/4`;
  const child = sh(script, { extra: { 3: b, 4: a }, stderr: { fd: a } });
  assert.equal(await text(child.stdout), 'BA');
  closeSync(a);
  closeSync(b);
  assert.equal((await child.exited).code, 0);
});

test('a killed child reports its signal', async () => {
  const child = sh('sleep 60');
  assert.equal(child.kill('SIGKILL'), true);
  assert.deepEqual(await child.exited, { code: 137, signal: 'SIGKILL' });
  child.stdout!.destroy();
  child.stderr!.destroy();
  assert.equal(killProcess(0, 'SIGKILL'), false);
});

test('many at once are all reaped and leave no descriptor', async () => {
  const before = readdirSync('/proc/self/fd').length;
  const all = Array.from({ length: 40 }, (_, i) => sh(`exit ${i}`, { stdout: 'null', stderr: 'null' }));
  const codes = await Promise.all(all.map(async (child) => (await child.exited).code));
  assert.deepEqual(codes, [...codes.keys()]);
  assert.equal(readdirSync('/proc/self/fd').length, before);
  const states = all.map((child) => {
    try {
      return readlinkSync(`/proc/${child.pid}/exe`);
    } catch {
      return 'gone';
    }
  });
  assert.deepEqual(new Set(states), new Set(['gone']));
});

test('what cannot start throws and leaves no descriptor', () => {
  const before = readdirSync('/proc/self/fd').length;
  assert.throws(() => sh('', { file: '/nonexistent/x' }), {
    code: 'ENOENT',
    message: 'fork/exec /nonexistent/x: no such file or directory',
  });
  assert.throws(() => sh('a\0b'), { code: 'EINVAL' });
  assert.throws(() => sh('true', { cwd: '/nonexistent' }), { code: 'ENOENT' });
  assert.equal(readdirSync('/proc/self/fd').length, before);
});

test('programs are found in a search path', () => {
  assert.equal(findExecutable('sh', '/nonexistent:/bin'), '/bin/sh');
  assert.equal(findExecutable('/bin/sh', ''), '/bin/sh');
  assert.equal(findExecutable('no-such-program', '/bin'), undefined);
  assert.equal(findExecutable('tmp', '/'), undefined);
  assert.ok(readFileSync('/bin/sh').length > 0);
});
