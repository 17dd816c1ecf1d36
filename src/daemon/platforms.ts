import { readFileSync } from 'node:fs';
import { probePlatforms } from '../executor/probe.ts';
import {
  amd64Variants,
  formatPlatform,
  hostPlatform,
  normalizePlatform,
  type Platform,
} from '../oci/platform.ts';

export interface WorkerPlatformsOptions {
  /** Named in the configuration: they come first, and what is found is told as well. */
  readonly configured: readonly Platform[];
  readonly tmpDir: string;
  /** Colon-separated, where tools are found. */
  readonly searchPath: string;
  /** How long what was found is believed; negative = for ever. */
  readonly maxAgeMs: number;
}

/** Platforms of the worker: its own first, then what emulators run; asked again from time to time (FEATURES A34). */
export class WorkerPlatforms {
  readonly #options: WorkerPlatformsOptions;
  readonly #maxAgeMs: number;
  #list: readonly Platform[];
  /** What the processor runs. */
  readonly native: readonly Platform[] = nativePlatforms();
  #machine = this.native;
  #probedAt = Number.NEGATIVE_INFINITY;
  #probing: Promise<void> | undefined;

  constructor(options: WorkerPlatformsOptions) {
    this.#options = options;
    this.#maxAgeMs = options.maxAgeMs < 0 ? Number.POSITIVE_INFINITY : options.maxAgeMs;
    this.#list = options.configured.length > 0 ? options.configured.map(normalizePlatform) : this.#machine;
  }

  /** As last told; the configured ones, or the machine's own, at least. */
  get current(): readonly Platform[] {
    return this.#list;
  }

  /** Looks again when the last look is too old. */
  async refresh(): Promise<readonly Platform[]> {
    const machine = await this.machine();
    const all = new Map([...this.#list, ...machine].map((p) => [formatPlatform(p), p]));
    this.#list = this.#options.configured.length > 0 ? [...all.values()] : machine;
    return this.#list;
  }

  /** What the machine runs without an emulator of ours, whatever the configuration says. */
  async machine(): Promise<readonly Platform[]> {
    if (performance.now() - this.#probedAt > this.#maxAgeMs || this.#probedAt < 0) {
      this.#probing ??= this.#probe().finally(() => {
        this.#probing = undefined;
      });
      await this.#probing;
    }
    return this.#machine;
  }

  async #probe(): Promise<void> {
    const found = await probePlatforms(this.#options.tmpDir, this.#options.searchPath);
    this.#machine = [...new Map([...this.native, ...found].map((p) => [formatPlatform(p), p])).values()];
    this.#probedAt = performance.now();
  }
}

/** The host's platform and, on amd64, the levels of its processor. */
function nativePlatforms(): Platform[] {
  const host = normalizePlatform(hostPlatform());
  if (host.architecture !== 'amd64') return [host];
  const flags = /^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
  return [host, ...amd64Variants(flags).map((variant) => ({ ...host, variant }))];
}
