import assert from 'node:assert/strict';
import { test } from 'node:test';
import { killLeft, OWNER_VARIABLE } from './left-processes.ts';
import { spawn } from './spawn.ts';

function start(env: Readonly<Record<string, string>>) {
  // The shell starts another program and waits for it.
  return spawn({
    file: '/bin/sh',
    args: ['sh', '-c', 'sleep 1000; true'],
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
  let killed: number[] = [];
  // The second process takes a moment to be there.
  while (killed.length < 2) killed = [...new Set([...killed, ...killLeft(owner)])];
  assert.ok(killed.includes(ours.pid));
  assert.notEqual((await ours.exited).signal, undefined);
  for await (const _ of ours.stdout ?? []) assert.fail('it says nothing'); // ends when nobody can write any more
  for (const other of others) {
    assert.ok(other.kill('SIGKILL'), 'it still runs');
    other.stdout?.destroy();
    await other.exited;
  }
  assert.deepEqual(killLeft(owner), []);
});
