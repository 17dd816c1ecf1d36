import { randomBytes } from 'node:crypto';
import { BuildError } from '../base/errors.ts';
import { SharedTask } from '../base/shared-task.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Definition } from '../llb/ops.ts';

/** What a frontend gives back: one tree or one per platform, and metadata (FEATURES I1). */
export interface FrontendResult<R> {
  /** null is the empty tree. Ignored when `refs` is there. */
  readonly ref: R | null;
  readonly refs?: ReadonlyMap<string, R | null>;
  readonly metadata: ReadonlyMap<string, Uint8Array>;
}

/** A tree that is solved when somebody asks for it, once. */
export class LazyRef {
  readonly id = randomBytes(16).toString('hex');
  /** Where it came from: kept for error snippets and sent back to clients. */
  readonly definition: Definition | undefined;
  readonly #solve: (signal: AbortSignal) => Promise<ImmutableRef | null>;
  #task: SharedTask<ImmutableRef | null>;
  #released = false;

  /** `solve` gives a ref that this object owns. */
  constructor(
    definition: Definition | undefined,
    solve: (signal: AbortSignal) => Promise<ImmutableRef | null>,
  ) {
    this.definition = definition;
    this.#solve = solve;
    this.#task = new SharedTask(solve);
  }

  /** The tree, still owned by this object. Aborting stops this wait, and the work when nobody else waits. */
  async result(signal?: AbortSignal): Promise<ImmutableRef | null> {
    if (this.#released) throw new BuildError('accessing released result');
    return this.#task.join(signal);
  }

  /** Lets go of a tree that turned out to be lost: whoever asks next has it solved again. */
  async renew(): Promise<void> {
    if (this.#released) return;
    const before = this.#task;
    this.#task = new SharedTask(this.#solve);
    await releaseResult(before);
  }

  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await releaseResult(this.#task);
  }
}

async function releaseResult(task: SharedTask<ImmutableRef | null>): Promise<void> {
  if (!task.settled) return;
  const ref = await task.join().catch(() => null); // a failed solve holds nothing
  await ref?.release();
}

export function refsOf<R>(result: FrontendResult<R>): R[] {
  const refs = result.refs ? [...result.refs.values()] : [result.ref];
  return refs.filter((ref): ref is NonNullable<typeof ref> & R => ref !== null && ref !== undefined);
}
