import type { Digest } from '../base/digest.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { ImmutableRef, RefContext } from '../cache/ref.ts';
import { together } from '../cache/together.ts';

/** Blobs that are brought side by side: few, so that the first ones are there soon. */
const PARALLEL_BLOBS = 4;

interface Arriving {
  readonly bring: (context: RefContext) => Promise<void>;
  readonly arrived: PromiseWithResolvers<void>;
}

/** Layers of a result that lie elsewhere. They are brought by name, as archives hold them. */
export class ArrivingBlobs {
  readonly #blobs = new Map<Digest, Arriving>();
  readonly #first: Promise<void>;

  constructor(refs: Iterable<Pick<ImmutableRef, 'lazyBlobs'>>) {
    for (const ref of refs)
      for (const [digest, bring] of ref.lazyBlobs()) {
        const arrived = Promise.withResolvers<void>();
        arrived.promise.catch(() => {}); // comes out of `bring`, too
        this.#blobs.set(digest, { bring, arrived });
      }
    const all = [...this.#blobs.values()].map(({ arrived }) => arrived.promise);
    this.#first = all.length > 0 ? Promise.race(all) : Promise.resolve();
    this.#first.catch(() => {});
  }

  /** Resolves when all are in the content store. */
  async bring(signal: AbortSignal): Promise<void> {
    const slots = new Semaphore(PARALLEL_BLOBS);
    const inOrder = [...this.#blobs].sort(([a], [b]) => (a < b ? -1 : 1));
    try {
      await together(
        inOrder.map(([, { bring, arrived }]) => async (own) => {
          using _slot = await slots.acquire(own);
          await bring({ signal: own });
          arrived.resolve();
        }),
        signal,
      );
    } catch (error) {
      for (const { arrived } of this.#blobs.values()) arrived.reject(error);
      throw error;
    }
  }

  /** Resolves when there is a blob, or none is to come. @throws what keeps them from coming */
  async begun(): Promise<void> {
    await this.#first;
  }

  /** Resolves when this blob is there. @throws what keeps it from coming */
  async there(digest: Digest): Promise<void> {
    await this.#blobs.get(digest)?.arrived.promise;
  }
}
