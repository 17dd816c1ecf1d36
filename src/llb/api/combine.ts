import * as inner from '../combine.ts';
import * as encoded from '../definition-state.ts';
import { type Definition, readDefinition } from './definition.ts';
import { LAZY, Lazy } from './lazy.ts';
import { constraintsOf, type StepOptions } from './options.ts';
import { State } from './state.ts';
import type { State as Tree } from '../state.ts';

/**
 * All trees on top of one another, later ones above: a MergeOp. Empty trees do not count: without others it is the empty
 * tree, with one other that one. Settings are those of the first.
 */
export function merge(states: readonly State[], options: StepOptions = {}): State {
  return new State(Lazy.all([listOf(states), constraintsOf(options)], inner.merge));
}

/**
 * What has to be done to `lower` to get `upper`: a DiffOp, for `merge`. `upper` itself when `lower` is the empty tree.
 * Settings are those of `lower`.
 */
export function diff(lower: State, upper: State, options: StepOptions = {}): State {
  return new State(Lazy.all([lower[LAZY], upper[LAZY], constraintsOf(options)], inner.diff));
}

/** An input of `passthrough`. */
export interface PassthroughInput {
  readonly state: State;
  /** The tree goes through; otherwise it only has to be made. */
  readonly output?: boolean;
}

/**
 * Trees that are there once all inputs are made: a PassthroughOp `id`. Gives the inputs with `output`, in their order,
 * as they are behind the step, without settings. `State.requires` is the short form for one.
 */
export function passthrough(
  id: string,
  inputs: readonly PassthroughInput[],
  options: StepOptions = {},
): State[] {
  const all = Lazy.all(
    [listOf(inputs.map(({ state }) => state)), constraintsOf(options)],
    (trees, constraints) =>
      inner.passthrough(
        id,
        trees.map((tree, i) => ({ tree, output: inputs[i]?.output ?? false })),
        constraints,
      ),
  );
  const outputs = inputs.filter(({ output }) => output);
  return outputs.map((_, i) => new State(all.map((states) => states[i]!)));
}

/**
 * The state that a definition, or the bytes of one, describes, to build further on it. Its steps keep their bytes,
 * metadata and locations.
 * @throws {Error} for a definition whose steps cannot be read
 */
export function fromDefinition(definition: Definition | Uint8Array): State {
  const { message } = definition instanceof Uint8Array ? readDefinition(definition) : definition;
  return new State(Lazy.of(encoded.fromDefinition(message)));
}

function listOf(states: readonly State[]): Lazy<readonly Tree[]> {
  return Lazy.all<Tree[], readonly Tree[]>(
    states.map((state) => state[LAZY]),
    (...all) => all,
  );
}
