import { statSync } from 'node:fs';
import type { Digest } from '../../base/digest.ts';

/** Blobs remembered; beyond, the ones looked at longest ago are read once more. */
const MAX_REMEMBERED = 5_000;

/** Changes whenever somebody writes to the file or puts another in its place. */
export function stampOf(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  // Joined, not added up: such a text keeps all its parts.
  return stat && [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(' ');
}

/** Files whose bytes were compared with their digest by this process, as they were then. */
export class SoundFiles {
  readonly #stamps = new Map<Digest, string>();

  has(digest: Digest, path: string): boolean {
    const stamp = this.#stamps.get(digest);
    return stamp !== undefined && stamp === stampOf(path);
  }

  /** @param stamp taken before the file was read */
  set(digest: Digest, stamp: string | undefined): void {
    this.#stamps.delete(digest);
    if (stamp !== undefined) this.#stamps.set(digest, stamp);
    if (this.#stamps.size <= MAX_REMEMBERED) return;
    const [oldest] = this.#stamps.keys();
    if (oldest !== undefined) this.#stamps.delete(oldest);
  }

  /** For a file that was hashed while it was written. */
  remember(digest: Digest, path: string): void {
    this.set(digest, stampOf(path));
  }
}
