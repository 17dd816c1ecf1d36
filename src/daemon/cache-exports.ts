import { digestOf } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { together } from '../cache/together.ts';
import { Semaphore } from '../base/semaphore.ts';
import { inlineCache } from '../remotecache/inline.ts';
import type { ExportSource, MakeInlineCache } from '../exporter/exporter.ts';
import { allRefs } from '../exporter/platforms.ts';
import type { VertexSpec } from '../llb/parse.ts';
import { oneOff } from '../remotecache/status.ts';
import { traceCache } from '../remotecache/trace.ts';
import type { Job } from '../solver/job.ts';
import type { VertexProgress } from '../solver/types.ts';
import type { Store } from '../store/store.ts';
import { type CacheExportEntry, cacheExports } from './cache-options.ts';
import type { CachePlaces, CacheTarget } from './cache-places.ts';
import type * as pb from '../pb/control.ts';

/** Where the refs of a build stand in the cache graph. */
export type ResultKeys = WeakMap<ImmutableRef, readonly string[]>;

interface ConfiguredExport {
  readonly entry: CacheExportEntry;
  readonly target: CacheTarget;
}

export interface CacheExportRun {
  readonly job: Job<VertexSpec, ImmutableRef>;
  readonly sessionId: string;
  readonly store: Pick<Store, 'content' | 'leases'>;
  readonly keys: ResultKeys;
  readonly signal: AbortSignal;
}

/** The cache exports of one build. Making it checks them, before anything is built. */
export class CacheExports {
  readonly #exports: readonly ConfiguredExport[];
  /** The cache is to go into the images, too. */
  readonly inline: boolean;

  /** @throws BuildError */
  constructor(options: pb.CacheOptions | undefined, places: CachePlaces, sessionId: string) {
    const entries = cacheExports(options);
    const sessions = sessionId === '' ? [] : [sessionId];
    this.inline = entries.some(({ type }) => type === 'inline');
    this.#exports = entries
      .filter(({ type }) => type !== 'inline')
      .map((entry) => ({ entry, target: configured(entry, () => places.target(entry, () => sessions)) }));
  }

  /** Fails before the build for places that cannot be reached or used. */
  async prepare(signal: AbortSignal): Promise<void> {
    await together(
      this.#exports
        .filter(({ entry }) => !entry.ignoreError)
        .map(({ entry, target }) => async (one: AbortSignal) => {
          try {
            await target.prepare?.(one);
          } catch (error) {
            throw unusable(entry.type, error);
          }
        }),
      signal,
    );
  }

  /** One step for each; gives the keys of the response. */
  run(source: ExportSource, run: CacheExportRun): Promise<Record<string, string>>[] {
    return this.#exports.map(async (one, index) => {
      const id = digestOf(`${run.sessionId}-cache-${index}`);
      try {
        return await run.job.step(id, one.target.name, (progress) => write(one, source, run, progress));
      } catch (error) {
        if (one.entry.ignoreError && !run.signal.aborted) return {};
        throw error;
      }
    });
  }
}

/** Makes caches for image configs, one after the other (FEATURES K9). */
export function inlineCaches(run: CacheExportRun): MakeInlineCache {
  const alone = new Semaphore(1);
  return async (ref, layers, compression, { signal, progress }) => {
    using _alone = await alone.acquire(signal);
    return await oneOff(progress, 'preparing layers for inline cache', async () => {
      using lease = run.store.leases.hold();
      const options = { mode: 'min', compression, lease: lease.id } as const;
      const load = { signal, progress, sessions: () => run.job.sessions };
      const keys = [keysOf(ref, run.keys)];
      await using traced = await traceCache(keys, run.job.cacheTrace(), options, load);
      return inlineCache(
        traced.chains,
        layers.map(({ digest }) => digest),
      );
    });
  };
}

function configured<T>({ type }: CacheExportEntry, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof BuildError && error.message.startsWith('unknown cache exporter')) throw error;
    throw unusable(type, error);
  }
}

function unusable(type: string, error: unknown): BuildError {
  return BuildError.wrap(error, `failed to configure ${type} cache exporter`);
}

async function write(
  { entry, target }: ConfiguredExport,
  source: ExportSource,
  run: CacheExportRun,
  progress: VertexProgress,
): Promise<Record<string, string>> {
  const { job, store, signal } = run;
  using lease = store.leases.hold();
  const options = { mode: entry.mode, compression: target.compression, lease: lease.id };
  const load = { signal, progress, sessions: () => job.sessions };
  await using traced = await oneOff(progress, 'preparing build cache for export', () =>
    traceCache(resultKeys(source, run.keys), job.cacheTrace(), options, load),
  );
  return await oneOff(progress, 'sending cache export', () =>
    target.write(traced.chains, store.content, { signal, progress }),
  );
}

/** Of every tree of the result; the empty tree stands nowhere. */
function resultKeys(source: ExportSource, keys: ResultKeys): (readonly string[])[] {
  return allRefs(source).map((ref) => keysOf(ref, keys));
}

function keysOf(ref: ImmutableRef, keys: ResultKeys): readonly string[] {
  const own = keys.get(ref);
  if (!own) throw new BuildError(`cache keys of ref ${ref.id} are not known`, { code: Code.internal });
  return own;
}
