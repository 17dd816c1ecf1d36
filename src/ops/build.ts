import { BuildError } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { BuildOp } from '../llb/ops.ts';
import type { CacheMap, Op, OpContext } from '../solver/types.ts';
import { buildDigest } from './combine-key.ts';

/** The builder that solves a definition, and the input it reads that from. */
const LLB_BUILDER = -1n;
const DEFINITION = 'buildkit.llb.definition';
const FILENAME_ATTR = 'llbbuild.filename';

export interface BuildOpServices {
  readonly inputs: number;
  /** Bytes of a regular file in the tree of a ref; links do not lead out of it. */
  readonly readFile: (ref: ImmutableRef | null, path: string, signal: AbortSignal) => Promise<Uint8Array>;
  /** Solves an encoded definition as part of the jobs that want this step. */
  readonly solve: (definition: Uint8Array) => Promise<ImmutableRef | null>;
}

/** A step that is the result of a definition which another step has written (FEATURES D15). Takes no permit. */
export class BuildOpRunner implements Op<ImmutableRef> {
  readonly #op: BuildOp;
  readonly #services: BuildOpServices;

  constructor(op: BuildOp, services: BuildOpServices) {
    this.#op = op;
    this.#services = services;
  }

  async cacheMap(): Promise<{ map: CacheMap<ImmutableRef>; done: boolean }> {
    const deps = Array.from({ length: this.#services.inputs }, () => ({}));
    return { map: { digest: buildDigest(this.#op), deps }, done: true };
  }

  async exec(
    inputs: readonly (ImmutableRef | null)[],
    { signal }: OpContext,
  ): Promise<readonly (ImmutableRef | null)[]> {
    const { builder, inputs: named, attrs } = this.#op;
    if (builder !== LLB_BUILDER) throw new BuildError('only LLB builder is currently allowed');
    const index = named[DEFINITION]?.input;
    if (index === undefined) throw new BuildError(`no llb definition input ${DEFINITION} found`);
    const input = inputs[Number(index)];
    if (input === undefined) throw new BuildError(`invalid index ${index}`);
    const bytes = await this.#services.readFile(input, attrs[FILENAME_ATTR] ?? DEFINITION, signal);
    return [await this.#services.solve(bytes)];
  }
}
