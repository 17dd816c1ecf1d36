import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeExecutor } from './fake.ts';
import type { Mountable, RunRequest } from './types.ts';

test('the fake mounts and releases its sources, and fails as a container does', async () => {
  const events: string[] = [];
  const source = (name: string): Mountable => ({
    mount: async (readonly) => {
      events.push(`${name} ${readonly}`);
      return { mounts: [], release: async () => void events.push(`-${name}`) };
    },
  });
  const request: RunRequest = {
    root: { source: source('root'), readonly: false },
    mounts: [{ dest: '/m', readonly: true, selector: '', source: source('m') }],
    meta: { args: ['x'], env: [], cwd: '/', validExitCodes: [4] },
  };
  const out: string[] = [];
  const fake = new FakeExecutor((_request, io) => {
    void io.onStdout?.(Buffer.from('hi'));
    return 4;
  });
  const io = { signal: new AbortController().signal, onStdout: (c: Uint8Array) => void out.push(String(c)) };
  await fake.run(request, io);
  assert.deepEqual(events.splice(0), ['root false', 'm true', '-m', '-root']);
  assert.deepEqual([out, fake.requests], [['hi'], [request]]);
  await assert.rejects(new FakeExecutor().run(request, io), { exitCode: 0, message: 'exit code: 0' });
  assert.equal(events.length, 4);
});
