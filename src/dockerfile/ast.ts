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
  /** Lines count from 1. */
  readonly startLine: number;
  readonly endLine: number;
}

/** What stands behind the flags. */
export type NodeArgs =
  /** Split at blanks; the rest of the line as one word in shell forms; none. */
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

/** One pair of ENV or LABEL. */
export interface KeyValue {
  readonly key: string;
  readonly value: string;
  /** Written `KEY value` instead of `KEY=value`. */
  readonly legacy: boolean;
}

/** A document inside the file: `<<NAME` … `NAME`. */
export interface Heredoc {
  readonly name: string;
  /** The number in front of `<<`; 0 without one. */
  readonly fd: number;
  /** The word had no quotes, so variables in the body are expanded. */
  readonly expand: boolean;
  /** `<<-`: leading tabs do not count. */
  readonly chomp: boolean;
  /** Lines between, line feeds included. */
  readonly content: string;
}

/** An instruction that should be written in another way. */
export interface ParseWarning {
  /** What follows the continuation character of the first line, joined. */
  readonly text: string;
  readonly line: number;
}

/** A Dockerfile as it is written. */
export interface ParsedFile {
  /** In the order of the file. */
  readonly nodes: readonly Node[];
  /** The escape character: a backslash, or a backtick if the file says so. */
  readonly escape: string;
  /** Instructions with empty lines inside continuations (FEATURES H60). */
  readonly emptyContinuations: readonly ParseWarning[];
}

/** One range for each line of the instruction. */
export function nodeLocation(node: Node): Location {
  return lines(node.startLine, node.endLine);
}
