import { randomUUID } from 'node:crypto';
import { digestOf } from '../base/digest.ts';
import type { Job } from '../solver/job.ts';
import type { SlotState } from '../solver/slots.ts';
import type { Result, VertexProgress } from '../solver/types.ts';

/** How often the queue is looked at, milliseconds. */
const INTERVAL_MS = 500;
/** A build of which nothing runs is told of its place after this time, milliseconds. */
const TELL_AFTER_MS = 3_000;
/** Changes of the place are told this often, milliseconds. */
const REPEAT_MS = 5_000;

/** A build as the queue speaks to it. */
export type QueuedJob = Pick<Job<unknown, Result>, 'step' | 'signal'>;

/** A build that was told that it waits. */
interface Told {
  readonly end: () => void;
  readonly progress: VertexProgress;
  text: string;
  at: number;
}

/**
 * Says in the progress of builds that they stand still because all places for steps are taken, and which number the
 * first of their steps has among those that wait. Builds of which a step runs are not told: they go on.
 */
export class QueueProgress implements Disposable {
  readonly #slots: () => SlotState;
  readonly #find: (id: string) => QueuedJob | undefined;
  readonly #told = new Map<string, Told>();
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(slots: () => SlotState, find: (id: string) => QueuedJob | undefined) {
    this.#slots = slots;
    this.#find = find;
    // Without a limit a build only waits for steps of its own.
    if (Number.isFinite(slots().limit)) this.#timer = setInterval(() => this.look(), INTERVAL_MS).unref();
  }

  /** Looks at the queue once. */
  look(now = Date.now()): void {
    const state = this.#slots();
    const places = placesOf(state, now);
    for (const [id, told] of this.#told)
      if (!places.has(id)) {
        this.#told.delete(id);
        told.end();
      }
    for (const [id, { number, name }] of places) {
      const text = `number ${number} of ${state.waiting.length} steps that wait: ${name}\n`;
      const told = this.#told.get(id) ?? this.#begin(id, state.limit);
      if (!told || told.text === text || now - told.at < REPEAT_MS) continue;
      told.text = text;
      told.at = now;
      told.progress.log(1, Buffer.from(text));
    }
  }

  #begin(id: string, limit: number): Told | undefined {
    const job = this.#find(id);
    if (!job || job.signal.aborted) return undefined;
    const over = Promise.withResolvers<void>();
    const end = over.resolve;
    job.signal.addEventListener('abort', () => end(), { once: true });
    let told: Told | undefined;
    const name = `[internal] waiting for a place (max-parallelism ${limit})`;
    const step = job.step(digestOf(randomUUID()), name, async (progress) => {
      told = { end, progress, text: '', at: Number.NEGATIVE_INFINITY };
      await over.promise;
    });
    step.catch(() => {}); // it ends with its build
    if (told) this.#told.set(id, told);
    return told;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** By build of which nothing runs: the first of its steps that has waited for long, and its number in the queue. */
function placesOf(
  { running, waiting }: SlotState,
  now: number,
): Map<string, { readonly number: number; readonly name: string }> {
  const active = new Set(running.map(({ job }) => job));
  const places = new Map<string, { number: number; name: string }>();
  for (const [index, { name, jobs, since }] of waiting.entries())
    for (const id of jobs)
      if (!active.has(id) && !places.has(id) && now - since >= TELL_AFTER_MS)
        places.set(id, { number: index + 1, name });
  return places;
}
