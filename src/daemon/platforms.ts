import { readFileSync } from 'node:fs';
import { probePlatforms } from '../executor/probe.ts';
import {
  amd64Variants,
  formatPlatform,
  hostPlatform,
  normalizePlatform,
  type Platform,
} from '../oci/platform.ts';

/** Platforms of the worker: its own first, then what emulators run; asked again from time to time (FEATURES A34). */
export class WorkerPlatforms {
  readonly #fixed: boolean;
  readonly #tmpDir: string;
  readonly #maxAgeMs: number;
  #list: readonly Platform[];
  #probedAt = Number.NEGATIVE_INFINITY;
  #probing: Promise<void> | undefined;

  /** @param configured replaces what is found; empty = find out. @param maxAgeMs negative = once is enough. */
  constructor(configured: readonly Platform[], tmpDir: string, maxAgeMs: number) {
    this.#fixed = configured.length > 0;
    this.#list = this.#fixed ? configured.map(normalizePlatform) : native();
    this.#tmpDir = tmpDir;
    this.#maxAgeMs = maxAgeMs < 0 ? Number.POSITIVE_INFINITY : maxAgeMs;
  }

  /** As last found; the machine's own at least. */
  get current(): readonly Platform[] {
    return this.#list;
  }

  /** Looks again when the last look is too old. */
  async refresh(): Promise<readonly Platform[]> {
    if (!this.#fixed && performance.now() - this.#probedAt > this.#maxAgeMs) {
      this.#probing ??= this.#probe().finally(() => {
        this.#probing = undefined;
      });
      await this.#probing;
    }
    return this.#list;
  }

  async #probe(): Promise<void> {
    const found = await probePlatforms(this.#tmpDir);
    const all = new Map([...native(), ...found].map((p) => [formatPlatform(p), p]));
    this.#list = [...all.values()];
    this.#probedAt = performance.now();
  }
}

/** The host's platform and, on amd64, the levels of its processor. */
function native(): Platform[] {
  const host = normalizePlatform(hostPlatform());
  if (host.architecture !== 'amd64') return [host];
  const flags = /^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
  return [host, ...amd64Variants(flags).map((variant) => ({ ...host, variant }))];
}
