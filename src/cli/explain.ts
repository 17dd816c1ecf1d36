import { invalidArgument } from '../base/errors.ts';
import type { FlagValues } from '../base/flags.ts';
import type { BuildExplanation } from '../client/types.ts';
import { explanationText } from '../explain/text.ts';
import { type CommandContext, openClient } from './context.ts';

export type ExplainFormat = 'plain' | 'json';

/** Looks at the flags of `build` before it begins. @throws BuildError */
export function checkFormat(flags: FlagValues): void {
  const format = formatOf(flags.string('explain-format'));
  if (format === 'json' && flags.strings('output').some(goesToStdout))
    throw invalidArgument('--explain-format json and an output cannot both go to the standard output');
}

function goesToStdout(output: string): boolean {
  return /(?:^|,)type=(?:oci|docker|tar)(?:,|$)/.test(output) && !/(?:^|,)dest=[^,-]/.test(output);
}

/** JSON is for programs, and goes to the standard output; text goes where the progress goes. */
export function writeExplanation(flags: FlagValues, explanation: BuildExplanation): void {
  const format = formatOf(flags.string('explain-format'));
  (format === 'json' ? process.stdout : process.stderr).write(rendered(explanation, format));
}

/** `buildctl debug explain REF` */
export async function runExplain(context: CommandContext): Promise<void> {
  const { flags, signal } = context;
  const [ref, ...more] = flags.args;
  if (ref === undefined || more.length > 0) throw invalidArgument('must pass one build ref');
  const format = formatOf(flags.string('format'));
  using client = await openClient(context);
  process.stdout.write(rendered(await client.explain(ref, { signal }), format));
}

function rendered(explanation: BuildExplanation, format: ExplainFormat): string {
  return format === 'json' ? `${JSON.stringify(explanation, undefined, 2)}\n` : explanationText(explanation);
}

function formatOf(text: string): ExplainFormat {
  if (text === 'plain' || text === 'json') return text;
  throw invalidArgument(`unknown format ${JSON.stringify(text)}: plain and json are known`);
}
