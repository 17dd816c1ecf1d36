import type { ImmutableRef } from '../cache/ref.ts';
import type { VertexSpec } from '../llb/parse.ts';
import type { Op, OpContext, Vertex } from '../solver/types.ts';
import type { DiskGuard } from './disk-guard.ts';

/** `op`, which now ends when the disk is full. What only reads goes on. */
export function guardedOp<O extends Op<ImmutableRef>>(
  op: O,
  vertex: Vertex<VertexSpec>,
  guard: Pick<DiskGuard, 'writing'>,
): O {
  const contained = vertex.spec.op.op?.$case === 'exec';
  const guarded = <T>(context: OpContext, work: (context: OpContext) => Promise<T>): Promise<T> =>
    guard.writing({ name: vertex.name, contained, signal: context.signal }, (signal) =>
      work({ ...context, signal }),
    );
  const exec = op.exec.bind(op);
  op.exec = (inputs, context) => guarded(context, (own) => exec(inputs, own));
  // Git sources and downloads write to find out what they are.
  const cacheMap = op.cacheMap.bind(op);
  if (vertex.inputs.length === 0)
    op.cacheMap = (index, context) => guarded(context, (own) => cacheMap(index, own));
  return op;
}
