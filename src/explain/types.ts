import type { Digest } from '../base/digest-type.ts';

/**
 * What a cause is about:
 * `file`: the file `subject` of `place`; `change` says how. An empty subject: some file, nobody knows which.
 * `more-files`: as many more files of `place` as `subject` says.
 * `build-arg`, `env`: the variable `subject`. `command`: what is run. `mount`: the mount at `subject`.
 * `option`: anything else that the instruction says, by name. `platform`.
 * `base`: the image `subject`; old and new are digests, or names when another image is named.
 * `source`: another source (git, http), named by `subject`; old and new are what it resolved to.
 * `parent`: the step `vertex`, whose result is another one now.
 * `no-record`: nothing is kept of an earlier run. `pruned`: the earlier result is gone.
 * `unfinished`: the earlier run failed or was cancelled. `damaged`: the record could not be used; `new` says why.
 * `ignore-cache`: asked for. `uncacheable`: what a client sends is never kept.
 * `unknown`: nothing that differs was found.
 */
export type CauseKind =
  | 'file'
  | 'more-files'
  | 'build-arg'
  | 'env'
  | 'command'
  | 'mount'
  | 'option'
  | 'platform'
  | 'base'
  | 'source'
  | 'parent'
  | 'no-record'
  | 'pruned'
  | 'unfinished'
  | 'damaged'
  | 'ignore-cache'
  | 'uncacheable'
  | 'unknown';

/**
 * How a file has changed. `below` stands for everything below a directory, where a tree has too many files to be
 * kept by name; `renamed` has the old name in `old`; `attributes` are extended ones.
 */
export type FileChange =
  | 'content'
  | 'mode'
  | 'owner'
  | 'type'
  | 'link'
  | 'attributes'
  | 'added'
  | 'removed'
  | 'renamed'
  | 'below';

/** One difference to the nearest earlier record. Texts are '' where they do not apply; values that look like secrets are hidden. */
export interface Cause {
  readonly kind: CauseKind;
  readonly subject: string;
  /** Of a file. */
  readonly change: FileChange | '';
  /** Of a file: the name of the step that it comes from, or of the client's folder. */
  readonly place: string;
  readonly old: string;
  readonly new: string;
  /** The step that a parent, or the place of a file, is. */
  readonly vertex: Digest | '';
}

/** Why one step of a build was not taken from the cache. */
export interface StepExplanation {
  readonly vertex: Digest;
  readonly name: string;
  /** It was in the cache, but is another one than before: a link in the chain to the reason why a later step ran. */
  readonly cached: boolean;
  /** At least one; the first is the most telling. */
  readonly causes: readonly Cause[];
}

/** Why the steps of a build ran. */
export interface BuildExplanation {
  /** Steps in the order of the graph, inputs first. Empty when all was in the cache. */
  readonly steps: readonly StepExplanation[];
  /** When the build ended that it is compared with; Unix milliseconds, 0 when there is none. */
  readonly comparedWith: number;
}

/** @internal */
export function cause(kind: CauseKind, more: Partial<Omit<Cause, 'kind'>> = {}): Cause {
  return { kind, subject: '', change: '', place: '', old: '', new: '', vertex: '', ...more };
}
