// The rules that hold at every moment, whatever the order of events.
import type { SlotState } from '../../solver/slots.ts';
import type { OpContext } from '../../solver/types.ts';
import type { Clock } from './clock.ts';
import type { Model, Node } from './model.ts';

/** Turns that the solver may take to tell an op that nobody wants it any more. */
const GRACE_TURNS = 4;

interface RunningOp {
  readonly node: Node;
  readonly signal: AbortSignal;
}

/** Somebody who waits for a node, until `end` says that he no longer does. */
export interface Interest {
  readonly digests: ReadonlySet<string>;
  readonly outcomes: ReadonlySet<string>;
  readonly session: string;
  endedAt?: number;
}

/** What a seed does that some rules do not hold with. */
export interface Chaos {
  /** Steps ignore the cache: a vertex may have two states, which nodes do not tell apart. */
  readonly ignores: boolean;
  /** Records go while builds run, and with them the keys that they shared. */
  readonly loses: boolean;
}

/** Sees what runs, for whom, and what is held. The first broken rule is kept. */
export class Watch {
  alive = 0;
  /** Places of jobs that have a limit. */
  readonly limits = new Map<string, number>();
  maps = 0;
  execs = 0;
  readonly #clock: Clock;
  readonly #model: Model;
  readonly #running = new Set<RunningOp>();
  readonly #interests = new Set<Interest>();
  readonly #events: string[] = [];
  readonly #chaos: Chaos;
  #broken: string | undefined;
  /** What has run since all is kept. */
  #kept: Set<string> | undefined;

  constructor(clock: Clock, model: Model, chaos: Chaos) {
    this.#clock = clock;
    this.#model = model;
    this.#chaos = chaos;
  }

  /** What happened, in order: equal for equal seeds. */
  get events(): readonly string[] {
    return this.#events;
  }

  get broken(): string | undefined {
    return this.#broken;
  }

  get running(): number {
    return this.#running.size;
  }

  /** From now on nothing is lost, and every result is kept: in another store, if this is called again. */
  keepsAll(): void {
    this.#kept = new Set();
  }

  note(event: string): void {
    this.#events.push(`${this.#clock.now} ${event}`);
  }

  fail(text: string): never {
    this.#broken ??= `turn ${this.#clock.now}: ${text}`;
    throw new Error(text);
  }

  /** Somebody wants `node` from now on. */
  wants(node: Node, session: string): Interest {
    const interest: Interest = {
      digests: new Set([...this.#model.graph(node)].map((one) => this.#model.vertex(one).digest)),
      outcomes: new Set([...this.#model.reach(node)].map(({ outcome }) => outcome)),
      session,
    };
    this.#interests.add(interest);
    return interest;
  }

  leaves(interest: Interest): void {
    interest.endedAt ??= this.#clock.now;
  }

  /** An op runs until disposed. */
  runs(node: Node, context: OpContext): Disposable {
    const { signal } = context;
    this.execs++;
    this.note(`run ${node.name}`);
    for (const other of this.#running) {
      if (other.signal.aborted || other.node.ignoreCache !== node.ignoreCache) continue;
      if (other.node.identity === node.identity) this.fail(`${node.name} runs beside ${other.node.name}`);
      if (!this.#chaos.ignores && !this.#chaos.loses && other.node.likeness === node.likeness)
        this.fail(`${node.name} runs beside ${other.node.name}, which is made of the same content`);
    }
    // Of several outputs only those are kept that were asked for.
    if (this.#kept?.has(node.likeness) && node.kind.outputs === 1)
      this.fail(`${node.name} runs again although its result is kept`);
    this.#kept?.add(node.likeness);
    if (context.sessions().length === 0) this.fail(`${node.name} runs without a session`);
    const op: RunningOp = { node, signal };
    this.#running.add(op);
    const onAbort = (): void => this.#aborted(node);
    signal.addEventListener('abort', onAbort);
    return {
      [Symbol.dispose]: () => {
        signal.removeEventListener('abort', onAbort);
        this.#running.delete(op);
      },
    };
  }

  /** No more steps run than there are places, in all and for each job. */
  holdsPlaces({ limit, running }: SlotState): void {
    if (running.length > limit) this.fail(`${running.length} steps run in ${limit} places`);
    for (const [job, own] of this.limits) {
      const count = running.filter((slot) => slot.job === job).length;
      if (count > own) this.fail(`${count} steps run for ${job}, which has ${own} places`);
    }
  }

  /** Looks at everything once a turn. */
  look(): void {
    const { now } = this.#clock;
    for (const interest of this.#interests)
      if (interest.endedAt !== undefined && now - interest.endedAt > GRACE_TURNS)
        this.#interests.delete(interest);
    for (const { node, signal } of this.#running) {
      if (signal.aborted) continue;
      if (![...this.#interests].some(({ outcomes }) => outcomes.has(node.outcome)))
        this.#broken ??= `turn ${now}: ${node.name} runs on although nobody wants it`;
    }
    if (this.#broken) throw new Error(this.#broken);
  }

  #aborted(node: Node): void {
    this.note(`abort ${node.name}`);
    if (this.#chaos.ignores) return;
    const { digest } = this.#model.vertex(node);
    for (const { digests, endedAt, session } of this.#interests) {
      if (endedAt === undefined && digests.has(digest))
        this.#broken ??= `turn ${this.#clock.now}: ${node.name} is aborted although ${session} wants it`;
    }
  }
}
