import { invalidArgument } from '../base/errors.ts';
import type { Constraints, Output, PassthroughNode } from './node.ts';
import { type State, scratch, stateOf, withOutput } from './state.ts';

/** Layers of all `states` on top of one another. Empty trees do not count. */
export function merge(states: readonly State[], constraints: Constraints = {}): State {
  const inputs = states.filter((state) => state.output !== null);
  const [first, second] = inputs;
  if (!first) return scratch();
  if (!second) return first;
  const outputs = inputs.map((state) => state.output as Output);
  const node = { kind: 'merge', inputs: outputs, caps: ['mergeop'], constraints } as const;
  return withOutput(first, { node, index: 0 });
}

/** What has to be done to `lower` to get `upper`. */
export function diff(lower: State, upper: State, constraints: Constraints = {}): State {
  if (lower.output === null) return upper.output === null ? scratch() : upper;
  const caps = ['diffop'];
  const node = { kind: 'diff', lower: lower.output, upper: upper.output, caps, constraints } as const;
  return withOutput(lower, { node, index: 0 });
}

/** `state` once all of `dependencies` are made as well. */
export function requires(
  state: State,
  id: string,
  dependencies: readonly State[],
  constraints: Constraints = {},
): State {
  if (dependencies.length === 0) return state;
  const others = dependencies.map((tree) => ({ tree, output: false }));
  const [through] = passthrough(id, [{ tree: state, output: true }, ...others], constraints);
  return withOutput(state, through!.output);
}

/** The trees with `output`, once all trees are made. Empty trees do not count. */
export function passthrough(
  id: string,
  inputs: readonly { readonly tree: State; readonly output: boolean }[],
  constraints: Constraints,
): State[] {
  if (id === '') throw invalidArgument('passthrough requires an id');
  if (inputs.some(({ tree, output }) => output && tree.output === null))
    throw invalidArgument('an empty tree can not be an output of a passthrough');
  const trees = inputs.filter(({ tree }) => tree.output !== null);
  const outputs = trees.flatMap(({ output }, i) => (output ? [i] : []));
  if (outputs.length === 0) throw invalidArgument('passthrough must have at least one output');
  const node: PassthroughNode = {
    kind: 'passthrough',
    id,
    inputs: trees.map(({ tree }) => tree.output as Output),
    outputs,
    caps: ['passthroughop'],
    constraints,
  };
  return outputs.map((_, index) => stateOf({ node, index }));
}

/** What the definition gives that a file of `state` holds when the build gets there (`encodeDefinition`). */
export function build(
  state: State,
  options: { readonly filename?: string } = {},
  constraints: Constraints = {},
): State {
  if (state.output === null) throw invalidArgument('a build step needs a tree to read its definition from');
  const node = {
    kind: 'build',
    input: state.output,
    ...options,
    caps: ['source.buildop.llbfilename'],
    constraints,
  } as const;
  return withOutput(state, { node, index: 0 });
}
