import type { Logger } from '../base/log.ts';
import { edgeLine, type StateSources } from './state-dump.ts';
import { isUnderWay } from '../solver/state.ts';

/** The longest time between two looks, milliseconds. */
const MAX_INTERVAL_MS = 60_000;
/** A look warns of no more builds than this. */
const MAX_WARNINGS = 10;
/** A warning names no more steps than this. */
const MAX_NAMED = 5;
/** The next warning about a build that still stands still comes after this many times as long. */
const BACK_OFF = 2;

/**
 * Warns in the log of builds that stand still, and names the steps that wait and what for. How long a build may
 * stand still is `limitMs`; 0 = never warn.
 */
export class StallWatch implements Disposable {
  readonly #sources: StateSources;
  readonly #limitMs: number;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout | undefined;
  /** How long a build stood still when it was warned of last, with the progress that it had then. */
  readonly #warned = new Map<string, { readonly lastProgress: number; readonly idleMs: number }>();

  constructor(sources: StateSources, limitMs: number, log: Logger) {
    this.#sources = sources;
    this.#limitMs = limitMs;
    this.#log = log;
    if (limitMs > 0) {
      const interval = Math.max(1000, Math.min(limitMs / 4, MAX_INTERVAL_MS));
      this.#timer = setInterval(() => this.look(), interval).unref();
    }
  }

  /** Looks at every build once. */
  look(now = Date.now()): void {
    const stalled = this.#sources.jobs().filter((job) => this.#isDue(job, now));
    const open = new Set(this.#sources.jobs().map(({ id }) => id));
    for (const id of this.#warned.keys()) if (!open.has(id)) this.#warned.delete(id);
    if (stalled.length === 0) return;
    const edges = this.#sources.edges().filter(isUnderWay);
    const ago = (since: number): string => `${Math.round((now - since) / 1000)} s`;
    for (const job of stalled.slice(0, MAX_WARNINGS)) {
      const own = edges.filter((edge) => edge.jobs.includes(job.id));
      // What others wait for comes first: those that only wait for inputs say nothing new.
      const roots = own.filter(({ doing }) => doing.length > 0);
      const named = [
        ...job.doing.map(({ what, since }) => `${what}: for ${ago(since)}`),
        ...(roots.length > 0 ? roots : own).map((edge) => edgeLine(edge, ago)),
      ];
      if (named.length === 0) continue; // waits for its client, who may think for as long as he likes
      this.#warned.set(job.id, { lastProgress: job.lastProgress, idleMs: now - job.lastProgress });
      this.#log.warn('build makes no progress', {
        build: job.id,
        for: ago(job.lastProgress),
        waits: named.slice(0, MAX_NAMED),
        ...(named.length > MAX_NAMED ? { more: named.length - MAX_NAMED } : {}),
      });
    }
  }

  #isDue({ id, lastProgress }: { readonly id: string; readonly lastProgress: number }, now: number): boolean {
    const before = this.#warned.get(id);
    const last = before?.lastProgress === lastProgress ? before.idleMs * BACK_OFF : this.#limitMs;
    return now - lastProgress >= last;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
