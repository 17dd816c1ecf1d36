import { BuildError } from '../base/errors.ts';
import type { ImmutableRef, RefManager } from '../cache/ref.ts';
import type { DiffOp, MergeOp, PassthroughOp } from '../llb/ops.ts';
import type { CacheMap, Op } from '../solver/types.ts';
import { diffDigest, mergeDigest, passthroughDigest } from './combine-key.ts';

type Refs = readonly (ImmutableRef | null)[];

export interface CombineServices {
  readonly refs: Pick<RefManager, 'merge' | 'diff'>;
  /** How many inputs the step has. */
  readonly inputs: number;
  /** Of what is made. */
  readonly description: string;
}

// Steps that only arrange their inputs (FEATURES D14, D16). They move no bytes and take no permit; what they give
// is made on its first use.

abstract class Combine implements Op<ImmutableRef> {
  protected readonly services: CombineServices;

  constructor(services: CombineServices) {
    this.services = services;
  }

  async cacheMap(): Promise<{ map: CacheMap<ImmutableRef>; done: boolean }> {
    const deps = Array.from({ length: this.services.inputs }, () => ({}));
    return { map: { digest: this.digest(), deps }, done: true };
  }

  async exec(inputs: Refs): Promise<Refs> {
    return this.combine(inputs);
  }

  protected abstract digest(): CacheMap<ImmutableRef>['digest'];
  protected abstract combine(inputs: Refs): Refs;
}

/** Layers of all inputs on top of one another. */
export class MergeOpRunner extends Combine {
  readonly #op: MergeOp;

  constructor(op: MergeOp, services: CombineServices) {
    super(services);
    this.#op = op;
  }

  protected digest() {
    return mergeDigest(this.#op);
  }

  protected combine(inputs: Refs): Refs {
    const { refs, description } = this.services;
    const parts = inputs.filter((input) => input !== null);
    return [parts.length === 0 ? null : refs.merge(parts, { description })];
  }
}

/** What leads from one input to the other. */
export class DiffOpRunner extends Combine {
  readonly #op: DiffOp;

  constructor(op: DiffOp, services: CombineServices) {
    super(services);
    this.#op = op;
  }

  protected digest() {
    return diffDigest(this.#op);
  }

  protected combine(inputs: Refs): Refs {
    const { refs, description } = this.services;
    // The sides that are not scratch are the inputs, in this order.
    const rest = [...inputs];
    const lower = side('lower', this.#op.lower?.input, rest);
    const upper = side('upper', this.#op.upper?.input, rest);
    if (!lower) return [upper?.clone() ?? null];
    if (lower.id === upper?.id) return [null];
    return [refs.diff(lower, upper ?? undefined, { description })];
  }
}

function side(name: string, input: bigint | undefined, rest: (ImmutableRef | null)[]): ImmutableRef | null {
  if (input === undefined || input === -1n) return null;
  const ref = rest.shift();
  if (ref === undefined) throw new BuildError(`invalid ${name} input index ${input} for diff op`);
  return ref;
}

/** Some of the inputs as they are, once all of them are there. */
export class PassthroughOpRunner extends Combine {
  readonly #op: PassthroughOp;

  constructor(op: PassthroughOp, services: CombineServices) {
    super(services);
    this.#op = op;
  }

  protected digest() {
    return passthroughDigest(this.#op);
  }

  protected combine(inputs: Refs): Refs {
    return this.#op.outputs.map((index) => {
      const input = inputs[Number(index)];
      if (input === undefined) throw new BuildError(`invalid passthrough output input index ${index}`);
      return input?.clone() ?? null;
    });
  }
}
