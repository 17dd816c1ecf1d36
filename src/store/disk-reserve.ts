import { closeSync, openSync, rmSync, statSync, writeSync } from 'node:fs';

/** Room for a few dozen small transactions. */
const RESERVE_BYTES = 2 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;

/**
 * Room on the disk that is given up when there is no other left: what is to be deleted must be written to the
 * database first, and without that a full disk would stay full.
 */
export class DiskReserve {
  readonly #path: string;
  #there: boolean;

  constructor(path: string) {
    this.#path = path;
    this.#there = sizeOf(path) === RESERVE_BYTES;
    this.restore();
  }

  /** Gives the room to whoever writes next. False when it was given up before. */
  release(): boolean {
    if (!this.#there) return false;
    this.#there = false;
    rmSync(this.#path, { force: true });
    return true;
  }

  /** Takes the room again, if there is enough. */
  restore(): void {
    if (this.#there) return;
    try {
      const fd = openSync(this.#path, 'w', 0o600);
      try {
        const zeros = Buffer.alloc(CHUNK_BYTES);
        for (let at = 0; at < RESERVE_BYTES; ) at += writeSync(fd, zeros, 0, zeros.length, at);
      } finally {
        closeSync(fd);
      }
      this.#there = true;
    } catch {
      // Still no room: it is tried again after a later commit.
      rmSync(this.#path, { force: true });
    }
  }
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
