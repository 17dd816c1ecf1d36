import { BuildError } from '../../base/errors.ts';
import { type Node, nodeLocation } from '../ast.ts';
import { trim } from '../text.ts';
import type { CommandLine, InstructionBase } from './types.ts';

/** The part of an instruction that all kinds share. */
export function baseOf(node: Node): InstructionBase {
  return {
    name: node.name,
    code: trim(node.original),
    location: nodeLocation(node),
    comments: node.comments,
  };
}

/** Arguments as a list; for ONBUILD the words of its trigger. */
export function wordsOf(node: Node): readonly string[] {
  const { args } = node;
  if (args.kind === 'trigger') return [args.trigger.name];
  return args.kind === 'pairs' ? args.pairs.map((pair) => pair.key) : args.words;
}

/** The one argument of an instruction that takes exactly one. */
export function onlyWord(node: Node, instruction: string): string {
  const words = wordsOf(node);
  if (words.length !== 1) throw new BuildError(`${instruction} requires exactly one argument`);
  return words[0]!;
}

export function requireWords(node: Node, instruction: string): readonly string[] {
  const words = wordsOf(node);
  if (words.length === 0) throw new BuildError(`${instruction} requires at least one argument`);
  return words;
}

export function commandLine(node: Node): CommandLine {
  return {
    words: commandWords(node.args.kind === 'json', wordsOf(node)),
    shellForm: node.args.kind !== 'json',
  };
}

/** Shell form is one word. */
export function commandWords(json: boolean, words: readonly string[]): readonly string[] {
  return json || words.length === 0 ? words : [words.join(' ')];
}

/** What the comments above say about `name` (FEATURES H57). */
export function description(comments: readonly string[], name: string): string {
  if (name === '') return '';
  const line = comments.find((comment) => comment.startsWith(`${name} `));
  return line?.slice(name.length + 1) ?? '';
}
