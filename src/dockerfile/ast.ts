import { lines, type Location } from './location.ts';

/** One instruction of a Dockerfile, split into its parts but not yet understood. */
export interface Node {
  /** The instruction word as written. */
  readonly name: string;
  readonly args: NodeArgs;
  /** `--name[=value]` words in front of the arguments. */
  readonly flags: readonly string[];
  /** The whole instruction with continuations joined. */
  readonly original: string;
  readonly heredocs: readonly Heredoc[];
  /** Comment lines since the previous instruction. */
  readonly comments: readonly string[];
  readonly startLine: number;
  readonly endLine: number;
}

export type NodeArgs =
  | { readonly kind: 'words'; readonly words: readonly string[] }
  /** The exec form: a JSON array. */
  | { readonly kind: 'json'; readonly words: readonly string[] }
  | { readonly kind: 'pairs'; readonly pairs: readonly KeyValue[] }
  /** ONBUILD */
  | { readonly kind: 'trigger'; readonly trigger: ParsedLine };

/** What one joined line says, without its place in the file. */
export interface ParsedLine {
  readonly name: string;
  readonly args: NodeArgs;
  readonly flags: readonly string[];
  readonly original: string;
}

export interface KeyValue {
  readonly key: string;
  readonly value: string;
  /** Written `KEY value` instead of `KEY=value`. */
  readonly legacy: boolean;
}

export interface Heredoc {
  readonly name: string;
  readonly fd: number;
  /** The word had no quotes, so variables in the body are expanded. */
  readonly expand: boolean;
  /** `<<-`: leading tabs do not count. */
  readonly chomp: boolean;
  readonly content: string;
}

export interface ParseWarning {
  readonly text: string;
  readonly line: number;
}

export interface ParsedFile {
  readonly nodes: readonly Node[];
  readonly escape: string;
  /** Empty lines inside continuations (FEATURES H60). */
  readonly emptyContinuations: readonly ParseWarning[];
}

export function nodeLocation(node: Node): Location {
  return lines(node.startLine, node.endLine);
}
