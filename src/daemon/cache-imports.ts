import { digestOf } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { ImmutableRef, RefManager } from '../cache/ref.ts';
import type { VertexSpec } from '../llb/parse.ts';
import type { Job } from '../solver/job.ts';
import type { CacheImport, CacheSource } from '../solver/sources.ts';
import type { VertexProgress } from '../solver/types.ts';
import { type CacheEntry, cacheId } from './cache-options.ts';
import type { CachePlaces } from './cache-places.ts';

/** Caches that one build may import. */
const MAX_IMPORTS = 200;

export interface CacheImportParts {
  readonly places: CachePlaces;
  readonly refs: Pick<RefManager, 'getByBlob'>;
  readonly log: Logger;
}

/** The caches that a build imports, each once (FEATURES E26). */
export class CacheImports {
  readonly #job: Job<VertexSpec, ImmutableRef>;
  readonly #parts: CacheImportParts;
  readonly #known = new Map<string, CacheImport<ImmutableRef>>();

  constructor(job: Job<VertexSpec, ImmutableRef>, parts: CacheImportParts) {
    this.#job = job;
    this.#parts = parts;
  }

  /** Starts those that will be asked for; too many are an error then. */
  begin(entries: readonly CacheEntry[]): void {
    this.of(entries.slice(0, MAX_IMPORTS));
  }

  /** Starts what is new, in the background. */
  of(entries: readonly CacheEntry[]): CacheImport<ImmutableRef>[] {
    return entries.map((entry) => {
      const id = cacheId(entry);
      let known = this.#known.get(id);
      if (!known) {
        if (this.#known.size >= MAX_IMPORTS)
          throw new BuildError(`more than ${MAX_IMPORTS} caches to import`, { code: Code.resourceExhausted });
        // Builds do not share caches that come through their sessions.
        known = { id: `${this.#job.id} ${id}`, sources: this.#import(entry, id) };
        this.#known.set(id, known);
      }
      return known;
    });
  }

  async #import(entry: CacheEntry, id: string): Promise<readonly CacheSource<ImmutableRef>[]> {
    const name = `importing cache manifest from ${id}`;
    try {
      return await this.#job.step(digestOf(name), name, (progress) => this.#read(entry, id, progress));
    } catch (error) {
      // Shown at its step; the build goes on without.
      this.#parts.log.debug('could not import a cache', { id, error });
      return [];
    }
  }

  async #read(
    entry: CacheEntry,
    id: string,
    progress: VertexProgress,
  ): Promise<readonly CacheSource<ImmutableRef>[]> {
    const { places, refs } = this.#parts;
    const { signal } = this.#job;
    const read = await configured(entry, async () =>
      places.origin(entry, () => this.#job.sessions).resolve(signal),
    );
    return await read(id, { refs }, { signal, progress });
  }
}

async function configured<T>({ type }: CacheEntry, make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    if (error instanceof BuildError && error.message.startsWith('unknown cache importer')) throw error;
    throw BuildError.wrap(error, `failed to configure ${type} cache importer`);
  }
}
