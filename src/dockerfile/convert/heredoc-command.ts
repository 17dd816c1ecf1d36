import { BuildError } from '../../base/errors.ts';
import { joinPath } from '../../llb/gopath.ts';
import { chompHeredoc, heredocWord } from '../heredoc.ts';
import type { RunInstruction } from '../instructions/types.ts';
import { trim } from '../text.ts';

export interface RunCommand {
  readonly words: readonly string[];
  /** A script that must be mounted for the command. */
  readonly script?: { readonly name: string; readonly data: string };
  /** Goes behind the instruction's text in vertex names. */
  readonly note: string;
}

/** Directory where the script is mounted. */
export const scriptDirectory = '/dev/pipes/';

/** What a RUN runs once its heredocs are taken in (FEATURES H24). */
export function runCommand(instruction: RunInstruction, os: string): RunCommand {
  const { command, heredocs } = instruction;
  const first = heredocs[0];
  if (!first) return { words: command.words, note: '' };
  const [line, ...more] = command.words;
  if (line === undefined || more.length > 0 || !command.shellForm)
    throw new BuildError(`parsing produced an invalid run command: [${command.words.join(' ')}]`);
  if (!heredocWord(line)) {
    const bodies = heredocs.map(({ data, name }) => `\n${data}${name}`);
    return { words: [line + bodies.join('')], note: '' };
  }
  const data = first.chomp ? chompHeredoc(first.data) : first.data;
  const note = ` (${summary(first.data)})`;
  if (os === 'windows' || !data.startsWith('#!')) return { words: [data], note };
  return { words: [joinPath(scriptDirectory, first.name)], script: { name: first.name, data }, note };
}

/** First line of a body. */
function summary(body: string): string {
  const [first = '', ...more] = trim(body).replaceAll('\r\n', '\n').split('\n');
  return more.length > 0 ? `${first}...` : first;
}
