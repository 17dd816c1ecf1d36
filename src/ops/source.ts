import { digestOf, type Digest } from '../base/digest.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { CacheMap, Op, OpContext, PlaceRequest } from '../solver/types.ts';
import type { SourceInstance } from '../source/source.ts';

/** A step without inputs: an image, a folder of the client, a file of the web. */
export class SourceOpRunner implements Op<ImmutableRef> {
  readonly #source: SourceInstance;
  readonly #acquire: (place: PlaceRequest) => Promise<Disposable>;
  #pin: string | undefined;

  constructor(source: SourceInstance, acquire: (place: PlaceRequest) => Promise<Disposable>) {
    this.#source = source;
    this.#acquire = acquire;
  }

  async cacheMap(index: number, context: OpContext): Promise<{ map: CacheMap<ImmutableRef>; done: boolean }> {
    const { key, pin, done } = await this.#source.cacheKey(index, context);
    this.#pin = pin;
    return { map: { digest: sourceDigest(key), deps: [], pin }, done };
  }

  /** What the source has resolved to; undefined until its key is known. */
  get pin(): string | undefined {
    return this.#pin;
  }

  acquire(place: PlaceRequest): Promise<Disposable> {
    return this.#acquire(place);
  }

  async exec(
    _inputs: readonly (ImmutableRef | null)[],
    context: OpContext,
  ): Promise<readonly (ImmutableRef | null)[]> {
    return [await this.#source.snapshot(context)];
  }
}

/** FEATURES E9: what depends on a session is never kept. */
export function sourceDigest(key: string): Digest {
  const digest = digestOf(`buildkit.source.v0:${key}`);
  return (key.startsWith('session:') ? digest.replace(/^sha256:/, 'random:') : digest) as Digest;
}
