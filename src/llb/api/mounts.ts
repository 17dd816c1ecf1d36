import { invalidArgument } from '../../base/errors.ts';
import type { MountOptions } from '../exec.ts';
import type { State as Tree } from '../state.ts';
import { LAZY, Lazy } from './lazy.ts';
import { int } from './options.ts';
import type { State } from './state.ts';

/** Something to mount in a run. Only a mount of which `givesOutput` is true is a state after the run. */
export class Mount<Output extends boolean = boolean> {
  readonly givesOutput: Output;
  readonly #options: Lazy<Omit<MountOptions, 'dest'>>;

  /** @internal */
  constructor(options: Lazy<Omit<MountOptions, 'dest'>>, givesOutput: Output) {
    this.#options = options;
    this.givesOutput = givesOutput;
  }

  /** @internal */
  get [LAZY](): Lazy<Omit<MountOptions, 'dest'>> {
    return this.#options;
  }
}

/** Mounts by their destination, an absolute path. The root is the state that runs. */
export type Mounts = { readonly [destination: string]: Mount } & { readonly '/'?: never };

/** The destinations that are states after the run; any text if all mounts of computed destinations are. */
export type OutputsOf<M extends Mounts> = keyof {
  [D in keyof M as M[D] extends Mount<true> ? D : never]: unknown;
} &
  string;

/** How a tree is mounted. */
export interface BindOptions {
  /** Mount `readonly`: nothing is written, so that there is no output. */
  readonly readonly?: boolean;
  /** Mount `output` -1 although it can be written to: what is written is dropped. */
  readonly noOutput?: boolean;
  /** Mount `selector`: a path inside the tree, mounted instead of its root. */
  readonly selector?: string;
  /** Mount `contentCache`: whether the step's cache key is made of the content of the tree. */
  readonly contentCache?: 'on' | 'off';
}

/** A tree in a run: ExecOp mount of type BIND whose `input` is the tree. What the run leaves there is a state. */
export function bind(
  from: State,
  options?: BindOptions & { readonly readonly?: false; readonly noOutput?: false },
): Mount<true>;
/** A tree in a run, of which nothing is kept: ExecOp mount of type BIND that is `readonly` or has no `output`. */
export function bind(
  from: State,
  options: BindOptions & ({ readonly readonly: true } | { readonly noOutput: true }),
): Mount<false>;
/** A tree in a run, with options that are known when the program runs: ExecOp mount of type BIND. */
export function bind(from: State, options: BindOptions): Mount;
export function bind(from: State, options: BindOptions = {}): Mount {
  const { readonly, noOutput } = options;
  return mountOf(from, { ...options }, !(readonly || noOutput));
}

/** How a cache directory is mounted. */
export interface CacheOptions {
  /** cacheOpt `sharing`: by runs at the same time (the default), one folder each, or one after the other. */
  readonly sharing?: 'shared' | 'private' | 'locked';
  /** What is in it at first; the empty tree when left out. */
  readonly from?: State;
  /** Mount `selector`: a path inside `from`. */
  readonly selector?: string;
  readonly readonly?: boolean;
  /** Mount `contentCache`: whether the step's cache key is made of the content of `from`. */
  readonly contentCache?: 'on' | 'off';
}

/** A folder that stays from build to build: ExecOp mount of type CACHE with cacheOpt `ID`. No output. */
export function cache(id: string, options: CacheOptions = {}): Mount<false> {
  if (id === '') throw invalidArgument('a cache mount needs an id');
  const { sharing, from, ...rest } = options;
  return mountOf(from, { ...rest, cache: { id, ...(sharing ? { sharing } : {}) } }, false);
}

/** A folder in memory: ExecOp mount of type TMPFS, TmpfsOpt `size` in bytes. No output. */
export function tmpfs(options: { readonly sizeBytes?: number | bigint } = {}): Mount<false> {
  return mountOf(undefined, { tmpfs: { sizeBytes: int(options.sizeBytes, 'sizeBytes') } }, false);
}

function mountOf<Output extends boolean>(
  from: State | undefined,
  options: Omit<MountOptions, 'dest' | 'from'>,
  givesOutput: Output,
): Mount<Output> {
  const lazy: Lazy<Omit<MountOptions, 'dest'>> = from
    ? from[LAZY].map((tree: Tree) => ({ ...options, from: tree }))
    : Lazy.of(options);
  return new Mount(lazy, givesOutput);
}
