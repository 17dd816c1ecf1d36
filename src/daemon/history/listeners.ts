import { BuildError, Code } from '../../base/errors.ts';
import type { BuildHistoryEvent } from '../../pb/control.ts';

/** Events that wait for one listener; whoever is further behind does not read. */
const MAX_QUEUED_EVENTS = 10_000;

/** Those who want to know of every build. */
export class Listeners {
  readonly #all = new Set<Listener>();
  #ended = false;

  /** Hears everything sent from now on. */
  open(): Listener {
    const listener = new Listener(() => this.#all.delete(listener));
    this.#all.add(listener);
    if (this.#ended) listener.end();
    return listener;
  }

  send(event: BuildHistoryEvent): void {
    for (const listener of this.#all) listener.push(event);
  }

  /** Nothing more comes: all of them end after what they have not read yet. */
  end(): void {
    this.#ended = true;
    for (const listener of this.#all) listener.end();
  }
}

class Listener implements Disposable {
  readonly #close: () => void;
  #queue: BuildHistoryEvent[] = [];
  #ended = false;
  #late = false;
  #wake: (() => void) | undefined;

  constructor(close: () => void) {
    this.#close = close;
  }

  push(event: BuildHistoryEvent): void {
    if (this.#queue.length < MAX_QUEUED_EVENTS) this.#queue.push(event);
    else this.#late = true;
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** Until `end`, or `signal` aborts. @throws resourceExhausted for one that did not read in time */
  async *events(signal: AbortSignal): AsyncGenerator<BuildHistoryEvent> {
    const onAbort = (): void => this.end();
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      for (;;) {
        const events = this.#queue;
        this.#queue = [];
        yield* events;
        if (this.#late)
          throw new BuildError('events of builds were lost: they came faster than they were read', {
            code: Code.resourceExhausted,
          });
        if (this.#queue.length > 0) continue;
        if (this.#ended) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  [Symbol.dispose](): void {
    this.#close();
  }
}
