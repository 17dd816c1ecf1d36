import { createHash, type Hash } from 'node:crypto';
import { cfunc, cfuncAsync } from './ffi.ts';

/** More than the library's `SHA256_CTX` has, 112 bytes. */
const STATE_BYTES = 256;
const DIGEST_BYTES = 32;
/** Less is hashed sooner than it is handed to another thread. */
const MIN_ASIDE_BYTES = 64 << 10;

const init = cfunc<[Uint8Array]>('SHA256_Init', 'int', ['void *']);
const final = cfunc<[Uint8Array, Uint8Array]>('SHA256_Final', 'int', ['void *', 'void *']);
const updateHere = cfunc<[Uint8Array, Uint8Array, number]>('SHA256_Update', 'int', [
  'void *',
  'void *',
  'size_t',
]);
const updateAside = cfuncAsync<[Uint8Array, Uint8Array, number]>('SHA256_Update', 'int', [
  'void *',
  'void *',
  'size_t',
]);

/** A running sha256 that can take its data on another thread, which `node:crypto` cannot. */
export class Sha256 {
  /** The OpenSSL of the running Node hashes; without its functions `node:crypto` does. */
  readonly #state: Uint8Array | undefined;
  readonly #hash: Hash | undefined;

  constructor() {
    const state = new Uint8Array(STATE_BYTES);
    if (isNative(state)) this.#state = state;
    else this.#hash = createHash('sha256');
  }

  update(data: Uint8Array): void {
    if (this.#state) updateHere(this.#state, data, data.length);
    else this.#hash?.update(data);
  }

  /** The same beside everything else. `data` must stay as it is, and nothing else be asked, until it has settled. */
  async updateAside(data: Uint8Array): Promise<void> {
    if (!this.#state || data.length < MIN_ASIDE_BYTES) this.update(data);
    else await updateAside(this.#state, data, data.length);
  }

  /** In hex. Ends it. */
  digest(): string {
    if (!this.#state) return this.#hash!.digest('hex');
    const digest = Buffer.alloc(DIGEST_BYTES);
    final(digest, this.#state);
    return digest.toString('hex');
  }
}

/** Begins `state`, where the functions are to be found. */
function isNative(state: Uint8Array): boolean {
  try {
    return init(state) === 1;
  } catch {
    return false;
  }
}
