import assert from 'node:assert/strict';
import { test } from 'node:test';
import { killLeft, OWNER_VARIABLE } from './left-processes.ts';
import { spawn } from './spawn.ts';

function start(env: Readonly<Record<string, string>>) {
  // The shell starts another program, says so, and waits for it.
  return spawn({
    file: '/bin/sh',
    args: ['sh', '-c', 'sleep 1000 & echo; wait'],
    env: { PATH: '/usr/bin:/bin', ...env },
    stdin: 'null',
    stdout: 'pipe',
    stderr: 'null',
    setsid: true,
  });
}

test('what an owner has left running ends with all that it has started; others are left alone', async () => {
  const owner = `/state/of/${process.pid}`;
  const ours = start({ [OWNER_VARIABLE]: owner });
  const others = [
    start({}),
    start({ [OWNER_VARIABLE]: `${owner}/other` }),
    start({ X: `${OWNER_VARIABLE}=${owner}` }),
  ];
  const told = ours.stdout![Symbol.asyncIterator]();
  assert.equal(String((await told.next()).value), '\n');
  const killed = killLeft(owner);
  assert.ok(killed.includes(ours.pid));
  assert.equal(killed.length, 2);
  assert.notEqual((await ours.exited).signal, undefined);
  assert.ok((await told.next()).done, 'ends when nobody can write any more');
  for (const other of others) {
    assert.ok(process.kill(-other.pid, 'SIGKILL'), 'it still runs');
    other.stdout?.destroy();
    await other.exited;
  }
  assert.deepEqual(killLeft(owner), []);
});
