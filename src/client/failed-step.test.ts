import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError, type ErrorDetail } from '../base/errors.ts';
import { MountType, NetMode, SecurityMode } from '../llb/ops.ts';
import type { NewContainerRequest } from '../pb/gateway.ts';
import { failedStepOf } from './failed-step.ts';
import { noShell, shellIn } from './step-shell.ts';

function errorWith(solve: unknown): BuildError {
  const details: ErrorDetail[] = [
    { type: 'errdefs.Vertex', value: { digest: 'sha256:aa' } },
    { type: 'errdefs.Solve', value: solve },
  ];
  return new BuildError('process failed', { details });
}

/** As BuildKit writes it: numbers as text, enums by name, what is empty left out. */
const EXEC = {
  inputIDs: ['in', ''],
  mountIDs: ['root', ''],
  op: {
    exec: {
      meta: {
        args: ['/bin/bash', '-c', 'x'],
        env: ['A=b'],
        cwd: '/w',
        user: 'u',
        proxyEnv: { httpProxy: 'p' },
      },
      mounts: [
        { dest: '/', readonly: true },
        {
          input: '-1',
          dest: '/s',
          mountType: 'SECRET',
          secretOpt: { ID: 'id', mode: 256 },
          contentCache: 'ON',
        },
      ],
      network: 'HOST',
      security: 'INSECURE',
      secretenv: [{ ID: 'id', name: 'S' }],
    },
    platform: { OS: 'linux', Architecture: 'amd64' },
  },
};

function opened(error: BuildError) {
  const step = failedStepOf(error);
  assert.ok(step);
  const requests: NewContainerRequest[] = [];
  const bridge = {
    newContainer: async (request: NewContainerRequest) => {
      requests.push(request);
      throw new BuildError('stop here');
    },
  };
  return { step, shell: shellIn(step, bridge as never, {}), requests };
}

const io = { stdout: () => {}, stderr: () => {} };

test('a failed exec is told with its trees; its container has its mounts and settings', async () => {
  const { step, shell, requests } = opened(errorWith(EXEC));
  assert.equal(step.digest, 'sha256:aa');
  assert.deepEqual([step.inputIds, step.mountIds, step.os], [['in', ''], ['root', ''], 'linux']);
  assert.deepEqual([step.exec?.network, step.exec?.security], [NetMode.HOST, SecurityMode.INSECURE]);
  assert.equal(shell?.program, '/bin/bash');
  await assert.rejects(shell.run(io), /stop here/);
  const [request] = requests;
  assert.equal(request?.Network, NetMode.HOST);
  assert.deepEqual(
    request?.Mounts.map((m) => [m.dest, m.resultID, m.mountType, m.readonly, m.secretOpt?.ID]),
    [
      ['/', 'root', MountType.BIND, false, undefined],
      ['/s', '', MountType.SECRET, false, 'id'],
    ],
  );
});

test('numbers in place of names; a step that is run by no shell', () => {
  const { op } = EXEC;
  const exec = { ...op.exec, meta: { args: ['make'] }, network: 1, mounts: [{ dest: '/', mountType: 0 }] };
  const { step, shell } = opened(errorWith({ ...EXEC, op: { exec } }));
  assert.equal(step.exec?.network, NetMode.HOST);
  assert.equal(shell?.program, '/bin/sh');
});

test('a file action has the tree that it wrote to; steps without trees have no shell', async () => {
  const file = opened(errorWith({ mountIDs: ['', 'tree'], op: { file: {} }, file: { index: '1' } }));
  await assert.rejects(file.shell!.run(io), /stop here/);
  assert.deepEqual(
    file.requests[0]?.Mounts.map(({ dest, resultID }) => [dest, resultID]),
    [['/', 'tree']],
  );
  for (const [solve, why] of [
    [{ inputIDs: ['x'], op: { file: {} }, cache: {} }, 'the step that failed runs no program'],
    [{ op: EXEC.op }, 'the step failed before its trees were there'],
    [{}, 'the step that failed runs no program'],
  ] as const) {
    const { step, shell } = opened(errorWith(solve));
    assert.equal(shell, undefined);
    assert.equal(noShell(step).message, `no shell for process failed: ${why}`);
  }
  assert.equal(failedStepOf(new Error('other')), undefined);
});
