import { invalidArgument } from '../base/errors.ts';

/** A word, as far as it is read, and what follows the quotes in it. */
const TOKEN = /(\\[\s\S]?)|'([^']*)('?)|"((?:[^"\\]|\\[\s\S])*)(\\?)("?)|[^\\'" \t\r\n]+/y;
const BLANK = /[ \t\r\n]+/y;
const COMMENT = /#[^\n]*/y;

/**
 * The words of a command as a POSIX shell splits them (FEATURES N8): quotes and backslashes, comments from a `#` at
 * the start of a word. Nothing is expanded; in double quotes a backslash takes any character.
 * @throws {BuildError} for a quote that is not closed, a backslash at the end
 */
export function splitWords(command: string): string[] {
  const words: string[] = [];
  let at = 0;
  const skip = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    const found = pattern.test(command);
    if (found) at = pattern.lastIndex;
    return found;
  };
  for (;;) {
    while (skip(BLANK) || skip(COMMENT));
    if (at === command.length) return words;
    let word = '';
    for (TOKEN.lastIndex = at; ; at = TOKEN.lastIndex) {
      const match = TOKEN.exec(command);
      if (!match) break;
      word += wordPart(match, command);
    }
    words.push(word);
  }
}

function wordPart(match: RegExpExecArray, command: string): string {
  const [all, escaped, single, singleEnd, double, lone, doubleEnd] = match;
  if (escaped === '\\' || lone === '\\')
    throw invalidArgument(`nothing follows the backslash at the end of ${quote(command)}`);
  if (singleEnd === '' || doubleEnd === '')
    throw invalidArgument(`a quote is not closed in ${quote(command)}`);
  if (escaped !== undefined) return escaped.slice(1);
  return single ?? double?.replace(/\\([\s\S])/g, '$1') ?? all;
}

function quote(command: string): string {
  return JSON.stringify(command);
}
