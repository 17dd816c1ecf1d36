import type { ImmutableRef } from '../cache/ref.ts';
import type { OpContext } from '../solver/types.ts';

/** Answer to "what would this source give": one of possibly several keys, dearer ones later (FEATURES E10). */
export interface SourceKey {
  /** Without the `buildkit.source.v0:` prefix; `session:…` keys are never kept. */
  readonly key: string;
  /** What the source resolved to (digest, commit), for provenance. */
  readonly pin: string;
  /** True when there is no further key. */
  readonly done: boolean;
}

/** One source of a graph, resolved as far as its attributes tell. */
export interface SourceInstance {
  cacheKey(index: number, context: OpContext): Promise<SourceKey>;
  /** The tree; null is an empty one. The caller owns the ref. */
  snapshot(context: OpContext): Promise<ImmutableRef | null>;
}
