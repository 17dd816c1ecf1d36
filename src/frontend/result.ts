import { randomBytes } from 'node:crypto';
import type { Attestations } from '../attest/attestation.ts';
import type { Capture } from '../attest/capture.ts';
import type { Digest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { SharedTask } from '../base/shared-task.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Definition } from '../llb/ops.ts';
import type { Descriptor } from '../oci/descriptor.ts';

/** What a frontend gives back: one tree or one per platform, and metadata (FEATURES I1). */
export interface FrontendResult<R> {
  /** null is the empty tree. Ignored when `refs` is there. */
  readonly ref: R | null;
  readonly refs?: ReadonlyMap<string, R | null>;
  readonly metadata: ReadonlyMap<string, Uint8Array>;
  /** What is said of each platform's tree. */
  readonly attestations?: Attestations<R>;
}

/** A solved graph. */
export interface SolvedTree extends SolvedGraph {
  /** Owned by whoever gets it. null is the empty tree. */
  readonly ref: ImmutableRef | null;
}

/** What is known of a graph once it is solved. */
export interface SolvedGraph {
  /** What its steps have used. */
  readonly capture: Capture;
  /** Layers that are there of the results of its steps; for as long as the build runs. */
  readonly layers: (signal: AbortSignal) => Promise<readonly StepLayers[]>;
}

export interface StepLayers {
  readonly vertex: Digest;
  readonly output: number;
  /** Bottom up. */
  readonly layers: readonly Descriptor[];
}

/** A tree that is solved when somebody asks for it, once. */
export class LazyRef {
  readonly id = randomBytes(16).toString('hex');
  /** Where it came from: kept for error snippets and sent back to clients. */
  readonly definition: Definition | undefined;
  readonly #solve: (signal: AbortSignal) => Promise<ImmutableRef | null>;
  #task: SharedTask<ImmutableRef | null>;
  #solved: SolvedGraph | undefined;
  #released = false;

  /** `solve` gives a ref that this object owns. */
  constructor(definition: Definition | undefined, solve: (signal: AbortSignal) => Promise<SolvedTree>) {
    this.definition = definition;
    this.#solve = async (signal) => {
      const { ref, ...solved } = await solve(signal);
      this.#solved = solved;
      return ref;
    };
    this.#task = new SharedTask(this.#solve);
  }

  /** undefined until it is solved. */
  get solved(): SolvedGraph | undefined {
    return this.#solved;
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

/** The trees of a result. */
export function treesOf<R>(result: FrontendResult<R>): R[] {
  return present(result.refs ? [...result.refs.values()] : [result.ref]);
}

/** Everything of a result that is solved: its trees and those that its attestations are read from. */
export function refsOf<R>(result: FrontendResult<R>): R[] {
  const said = [...(result.attestations?.values() ?? [])].flat();
  return [...treesOf(result), ...present(said.map(({ ref }) => ref))];
}

function present<R>(refs: readonly (R | null | undefined)[]): R[] {
  return refs.filter((ref): ref is R & NonNullable<unknown> => ref !== null && ref !== undefined);
}
