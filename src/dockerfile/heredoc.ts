import { BuildError } from '../base/errors.ts';
import type { Heredoc, ParsedLine } from './ast.ts';
import { expandWords, noVariables } from './expand.ts';
import { lower } from './text.ts';

const FORM = /^([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)$/;
const TAKES_HEREDOCS: ReadonlySet<string> = new Set(['add', 'copy', 'run']);

/** `[fd]<<[-]NAME` as a word of its own, or undefined. The content is still to be read. */
export function parseHeredocWord(word: string): Heredoc | undefined {
  const match = FORM.exec(word);
  const rest = match?.[3] ?? '';
  if (!match || rest === '') return undefined;
  const options = { escape: '\\', keepUnset: true };
  const plain = expandWords(rest, noVariables, options);
  if (plain.length !== 1) return undefined;
  const raw = expandWords(rest, noVariables, { ...options, rawQuotes: true });
  if (raw.length !== 1)
    throw new BuildError(`internal lexing of heredoc produced inconsistent results: ${rest}`);
  const name = plain[0]!;
  return {
    name,
    fd: Number(match[1]),
    // A quote that got lost was a real one.
    expand: quotes(name) === quotes(raw[0]!),
    chomp: match[2] === '-',
    content: '',
  };
}

/** As `parseHeredocWord`; a word that cannot be read is no heredoc. */
export function heredocWord(word: string): Heredoc | undefined {
  try {
    return parseHeredocWord(word);
  } catch {
    return undefined;
  }
}

/** The heredocs that a joined line announces, in order (FEATURES H24). */
export function heredocsOf(line: ParsedLine): Heredoc[] {
  if (!line.original.includes('<<') || !takesHeredocs(line)) return [];
  let words: readonly string[];
  try {
    words = expandWords(line.original, noVariables, {
      escape: '\\',
      rawQuotes: true,
      rawEscapes: true,
      keepUnset: true,
    });
  } catch {
    return []; // the shell of the step will complain about its quotes
  }
  return words.map(parseHeredocWord).filter((heredoc) => heredoc !== undefined);
}

function takesHeredocs(line: ParsedLine): boolean {
  const isTrigger = lower(line.name) === 'onbuild' && line.args.kind === 'trigger';
  const inner = isTrigger && line.args.kind === 'trigger' ? line.args.trigger : line;
  return TAKES_HEREDOCS.has(lower(inner.name)) && inner.args.kind !== 'json';
}

/** Body without the tabs that `<<-` ignores. */
export function chompHeredoc(content: string): string {
  return content.replace(/^\t+/gm, '');
}

function quotes(text: string): number {
  return text.split(/['"]/).length - 1;
}
