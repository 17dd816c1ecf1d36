import type {
  Constraints,
  CopyOptions,
  FileActionNode,
  FileStep,
  MkdirOptions,
  OwnerOptions,
  Owner,
  RmOptions,
} from './node.ts';
import { type State, withOutput } from './state.ts';

/**
 * `state` after the `steps`, as one step of the graph. Paths that are not absolute start at the directory of
 * the state that they belong to.
 */
export function file(state: State, steps: readonly FileStep[], constraints: Constraints = {}): State {
  const node = {
    kind: 'file',
    actions: chain(state, steps),
    caps: ['file.base'],
    basePlatform: state.platform,
    constraints,
  } as const;
  return withOutput(state, { node, index: 0 });
}

/** Steps on `state` whose outcome `copy` takes from, within the same step of the graph. */
export function chain(state: State, steps: readonly FileStep[]): FileActionNode {
  return { base: state, steps };
}

/** Only the permission bits of `mode` count. */
export function mkdir(path: string, mode: number, options: MkdirOptions = {}): FileStep {
  return { kind: 'mkdir', path, mode, options };
}

export function mkfile(
  path: string,
  mode: number,
  data: Uint8Array | string,
  options: OwnerOptions = {},
): FileStep {
  return {
    kind: 'mkfile',
    path,
    mode,
    data: typeof data === 'string' ? new TextEncoder().encode(data) : data,
    options,
  };
}

/** A link at `newPath` whose text is `oldPath`; both are taken as they are. */
export function symlink(oldPath: string, newPath: string, options: OwnerOptions = {}): FileStep {
  return { kind: 'symlink', oldPath, newPath, options };
}

export function rm(path: string, options: RmOptions = {}): FileStep {
  return { kind: 'rm', path, options };
}

export function copy(
  from: State | FileActionNode,
  src: string,
  dest: string,
  options: CopyOptions = {},
): FileStep {
  return { kind: 'copy', from, src, dest, options };
}

/** Reads `user[:group]`, each a decimal number, `root` or a name. */
export function parseOwner(text: string): NonNullable<OwnerOptions['owner']> {
  const at = text.indexOf(':');
  const user = ownerOf(at < 0 ? text : text.slice(0, at));
  return at < 0 ? { user } : { user, group: ownerOf(text.slice(at + 1)) };
}

function ownerOf(text: string): Owner {
  if (text === 'root') return { id: 0 };
  if (/^[+-]?\d+$/.test(text)) {
    const id = Number(text);
    if (id >= -(2 ** 31) && id < 2 ** 31) return { id };
  }
  return { name: text };
}
