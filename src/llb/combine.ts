import { invalidArgument } from '../base/errors.ts';
import type { Constraints, Output, PassthroughNode } from './node.ts';
import { type State, scratch, withOutput } from './state.ts';

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
  const inputs = [state, ...dependencies].flatMap(({ output }) => output ?? []);
  if (state.output === null) throw invalidArgument('passthrough must have at least one output');
  if (id === '') throw invalidArgument('passthrough requires an id');
  const node: PassthroughNode = {
    kind: 'passthrough',
    id,
    inputs,
    outputs: [0],
    caps: ['passthroughop'],
    constraints,
  };
  return withOutput(state, { node, index: 0 });
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
