import type { ImmutableRef } from '../cache/ref.ts';
import { plainLayer } from '../exporter/image-writer.ts';
import type { StepLayers } from '../frontend/result.ts';
import type { VertexSpec } from '../llb/parse.ts';
import { readyLayers } from '../remotecache/ready-layers.ts';
import type { CacheTrace, SolvedStep } from '../solver/job.ts';
import type { LoadContext } from '../solver/sources.ts';
import type { VertexProgress } from '../solver/types.ts';
import type { Store } from '../store/store.ts';

/** Looking at what is there shows nothing. */
const QUIET: VertexProgress = { log: () => {}, status: () => {}, warn: () => {} };

/** Layers that are there of the results of steps. */
export async function stepLayers(
  steps: readonly SolvedStep<VertexSpec, ImmutableRef>[],
  trace: CacheTrace<ImmutableRef>,
  store: Pick<Store, 'leases'>,
  context: Omit<LoadContext, 'progress'>,
): Promise<StepLayers[]> {
  using lease = store.leases.hold();
  const found: StepLayers[] = [];
  for (const { vertex, outputs } of steps) {
    for (const { index, keys } of outputs()) {
      const layers = await readyLayers(keys, trace, lease.id, { ...context, progress: QUIET });
      if (!layers?.length) continue;
      found.push({
        vertex: vertex.digest,
        output: index,
        layers: layers.map((one) => plainLayer(one, true)),
      });
    }
  }
  return found;
}
