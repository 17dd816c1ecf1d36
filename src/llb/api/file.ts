import { invalidArgument } from '../../base/errors.ts';
import * as inner from '../file.ts';
import type {
  CopyOptions as InnerCopyOptions,
  FileActionNode,
  FileStep,
  Owner as InnerOwner,
  OwnerOptions as InnerOwnerOptions,
} from '../node.ts';
import { LAZY, Lazy } from './lazy.ts';
import type { State } from './state.ts';

/** One action of a file step, for `State.file` and `chain`. */
export class FileAction {
  readonly #step: Lazy<FileStep>;

  /** @internal */
  constructor(step: Lazy<FileStep>) {
    this.#step = step;
  }

  /** @internal */
  get [LAZY](): Lazy<FileStep> {
    return this.#step;
  }
}

/** Actions on a state whose outcome `copy` takes from, inside the same step. */
export class FileChain {
  readonly #node: Lazy<FileActionNode>;

  /** @internal */
  constructor(node: Lazy<FileActionNode>) {
    this.#node = node;
  }

  /** @internal */
  get [LAZY](): Lazy<FileActionNode> {
    return this.#node;
  }
}

/** `user[:group]`, by number or by name, or both apart. Names are looked up in the tree that is written to. */
export type Owner = string | { readonly user?: number | string; readonly group?: number | string };

/** What is said about whatever an action makes. */
export interface MakeOptions {
  /** ChownOpt; root when left out, what it was for copies. */
  readonly owner?: Owner;
  /** Modification time; bigint is Unix nanoseconds. The time of the build when left out, what it was for copies. */
  readonly createdTime?: Date | bigint;
}

/** Options of `mkdir`. */
export interface MkdirOptions extends MakeOptions {
  /** Permission bits, 0o755 when left out. */
  readonly mode?: number;
  /** MkDir `makeParents`: parents that do not exist are made, and nothing is wrong with a folder that does. */
  readonly parents?: boolean;
}

/** Options of `mkfile`. */
export interface MkfileOptions extends MakeOptions {
  /** Permission bits, 0o644 when left out. */
  readonly mode?: number;
}

/** Options of `rm`. */
export interface RmOptions {
  /** Rm `allowNotFound` */
  readonly allowNotFound?: boolean;
  /** Rm `allowWildcard`: the last part of the path is a pattern. */
  readonly allowWildcard?: boolean;
}

/** Options of `copy`; each is the field of FileActionCopy of the same meaning. */
export interface CopyOptions extends MakeOptions {
  /** Permission bits, or a symbolic mode as chmod(1) takes it (`modeStr`). Kept when left out. */
  readonly mode?: number | string;
  /** Links are followed in the source. */
  readonly followSymlinks?: boolean;
  /** `dirCopyContents`: what is in the folder, not the folder. */
  readonly dirContentsOnly?: boolean;
  readonly includePatterns?: readonly string[];
  readonly excludePatterns?: readonly string[];
  /** Paths without which the copy fails. */
  readonly requiredPaths?: readonly string[];
  /** `attemptUnpackDockerCompatibility`: archives are unpacked, as ADD does. */
  readonly attemptUnpack?: boolean;
  /** Parents of the destination are made. */
  readonly createDestPath?: boolean;
  /** The source is a pattern. */
  readonly allowWildcard?: boolean;
  /** The pattern may match nothing. */
  readonly allowEmptyWildcard?: boolean;
  /** What is in the way is replaced, a folder by a file too. */
  readonly alwaysReplaceExistingDestPaths?: boolean;
}

/** A folder: FileActionMkDir. Paths that are not absolute start at the directory of the state. */
export function mkdir(path: string, options: MkdirOptions = {}): FileAction {
  const { mode = 0o755, parents } = options;
  const more = parents === undefined ? {} : { makeParents: parents };
  return ready(inner.mkdir(path, mode, { ...made(options), ...more }));
}

/** A file with `data`: FileActionMkFile. */
export function mkfile(path: string, data: Uint8Array | string, options: MkfileOptions = {}): FileAction {
  return ready(inner.mkfile(path, options.mode ?? 0o644, data, made(options)));
}

/** A link at `newPath` with the text `oldPath`, both as they are: FileActionSymlink. */
export function symlink(oldPath: string, newPath: string, options: MakeOptions = {}): FileAction {
  return ready(inner.symlink(oldPath, newPath, made(options)));
}

/** What is at `path` is removed, a folder with all that is in it: FileActionRm. */
export function rm(path: string, options: RmOptions = {}): FileAction {
  return ready(inner.rm(path, options));
}

/**
 * `src` of another state, or of the outcome of a chain of actions, goes to `dest`: FileActionCopy with the other tree
 * as `secondaryInput`. Paths that are not absolute start at the directory of the state that they belong to.
 */
export function copy(
  from: State | FileChain,
  src: string,
  dest: string,
  options: CopyOptions = {},
): FileAction {
  const { owner, createdTime, ...rest } = options;
  const inside: InnerCopyOptions = { ...rest, ...made(options) };
  // A tree or a chain: what `copy` inside takes as well.
  const source = from[LAZY] as Lazy<Parameters<typeof inner.copy>[0]>;
  return new FileAction(source.map((tree) => inner.copy(tree, src, dest, inside)));
}

/**
 * `actions` on `state`, not as a step of its own: `copy` in a `State.file` takes from their outcome, and the FileOp of
 * that step holds them as well.
 */
export function chain(state: State, actions: FileAction | readonly FileAction[]): FileChain {
  return new FileChain(
    Lazy.all([state[LAZY], stepsOf(actionsOf(actions))], (tree, steps) => inner.chain(tree, steps)),
  );
}

/** @internal */
export function actionsOf(actions: FileAction | readonly FileAction[]): readonly FileAction[] {
  const list = actions instanceof FileAction ? [actions] : actions;
  if (list.length === 0) throw invalidArgument('action is required');
  return list;
}

/** @internal */
export function stepsOf(actions: readonly FileAction[]): Lazy<readonly FileStep[]> {
  return Lazy.all<FileStep[], readonly FileStep[]>(
    actions.map((action) => action[LAZY]),
    (...steps) => steps,
  );
}

function ready(step: FileStep): FileAction {
  return new FileAction(Lazy.of(step));
}

function made({ owner, createdTime }: MakeOptions): InnerOwnerOptions {
  return {
    ...(owner === undefined ? {} : { owner: ownerOf(owner) }),
    ...(createdTime === undefined ? {} : { createdTime: nanoseconds(createdTime) }),
  };
}

function ownerOf(owner: Owner): NonNullable<InnerOwnerOptions['owner']> {
  if (typeof owner === 'string') return inner.parseOwner(owner);
  const one = (who: number | string): InnerOwner => (typeof who === 'number' ? { id: who } : { name: who });
  return {
    ...(owner.user === undefined ? {} : { user: one(owner.user) }),
    ...(owner.group === undefined ? {} : { group: one(owner.group) }),
  };
}

function nanoseconds(time: Date | bigint): bigint {
  if (typeof time === 'bigint') return time;
  if (Number.isNaN(time.getTime())) throw invalidArgument('createdTime is no date');
  return BigInt(time.getTime()) * 1_000_000n;
}
