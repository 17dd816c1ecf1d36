import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { ExecOp, Op } from '../llb/ops.ts';
import type { VertexSpec } from '../llb/parse.ts';
import { FailedStep } from '../ops/failed-step.ts';
import type { StepFailure } from '../solver/job.ts';
import { FailedSteps } from './failed-steps.ts';

const digest = digestOf('vertex');
const tree = { id: 'tree', release: async () => {} } as ImmutableRef;

function steps(op: Parameters<typeof Op.fromPartial>[0], leftover: FailedStep | undefined) {
  let kept = 0;
  const vertex = {
    digest,
    name: 'RUN false',
    inputs: [],
    options: { ignoreCache: false, description: { 'llb.customname': 'RUN false' } },
    spec: { op: Op.fromPartial(op) } as VertexSpec,
  };
  const failure = (wanted: string): StepFailure<VertexSpec> | undefined =>
    wanted === digest ? { vertex, leftover } : undefined;
  const own = new FailedSteps({ failure, lookIntoFailures: () => void kept++ });
  return { own, kept: () => kept };
}

const failed = new BuildError('process failed', {
  code: Code.notFound,
  details: [{ type: 'errdefs.Vertex', value: { digest } }],
});

function solveOf(error: BuildError): unknown {
  const details = error.details.flatMap((detail) =>
    'type' in detail && detail.type === 'errdefs.Solve' ? [detail.value] : [],
  );
  assert.ok(details.length <= 1);
  return details[0];
}

test('an error of a step tells its op and the ids of its trees, once', async () => {
  const exec = ExecOp.fromPartial({
    meta: { args: ['false'], cwd: '/' },
    network: 2,
    mounts: [{ input: -1n, dest: '/', mountType: 3 }],
  });
  const step = new FailedStep([tree, null], [tree, null]);
  const { own, kept } = steps({ op: { $case: 'exec', value: exec } }, step);
  own.keep();
  assert.equal(kept(), 1);
  const told = own.describe(failed);
  assert.equal(told.code, failed.code);
  const [id] = step.inputIds;
  assert.deepEqual(solveOf(told), {
    inputIDs: [id, ''],
    mountIDs: [id, ''],
    op: {
      exec: {
        meta: { args: ['false'], cwd: '/' },
        mounts: [{ input: '-1', dest: '/', mountType: 'CACHE' }],
        network: 'NONE',
      },
    },
    description: { 'llb.customname': 'RUN false' },
  });
  assert.equal(own.describe(told), told);
  assert.equal(own.tree(id!), tree);
  assert.equal(own.tree('other'), undefined);
  await step.release();
  assert.throws(() => own.tree(id!), { message: /no longer kept/, code: Code.notFound });
});

test('a failed action or look-up is told by its index; one with an op of many bytes is told without', () => {
  for (const [kind, index, shown] of [
    ['file', 0, {}],
    ['file', 2, { index: '2' }],
    ['cache', 1, { index: '1' }],
  ] as const) {
    const { own } = steps({ op: undefined }, new FailedStep([], [], { kind, index }));
    assert.deepEqual((solveOf(own.describe(failed)) as Record<string, unknown>)[kind], shown);
  }
  const data = new Uint8Array(3 << 20);
  const actions = [{ action: { $case: 'mkfile' as const, value: { path: '/x', data } } }];
  const { own } = steps({ op: { $case: 'file', value: { actions } } }, undefined);
  assert.equal(own.describe(failed), failed);
});

test('errors of no step, or of none of this build, stay as they are', () => {
  const { own } = steps({}, undefined);
  const plain = new BuildError('x');
  assert.equal(own.describe(plain), plain);
  const other = plain.with({ type: 'errdefs.Vertex', value: { digest: digestOf('other') } });
  assert.equal(own.describe(other), other);
});
