import { decodeDefinition } from '../../llb/encode.ts';
import { definitionBytes } from '../../gateway/definition.ts';
import type { FrontendResult } from '../../gateway/types.ts';
import {
  type Answer,
  answerMetadata,
  type AskedSource,
  CONVERT,
  DESCRIBE,
  describeAnswer,
  graphAnswer,
  LINT,
  lintAnswer,
  OUTLINE,
  outlineAnswer,
  TARGETS,
  targetsAnswer,
  unsupportedRequest,
} from '../subrequest-answers.ts';
import type { BuildOutline, BuildTarget, LintReport, OutlineNeed, QuestionHandlers } from './types.ts';

/**
 * Answers `name` (FEATURES I21, N14).
 * @param source what the answer is about; undefined when it was not read
 * @throws BuildError for a question that nobody answers
 */
export async function answerQuestion(
  name: string,
  handlers: QuestionHandlers,
  source: AskedSource | undefined,
): Promise<FrontendResult> {
  const about = source ?? { filename: '', language: '', text: '', data: new Uint8Array() };
  const answer = await answerOf(name, handlers, about);
  if (answer) return { metadata: Object.fromEntries(answerMetadata(answer)) };
  const other = await handlers.other?.(name);
  if (!other) throw unsupportedRequest(name);
  return other;
}

async function answerOf(
  name: string,
  { outline, targets, lint, graph }: QuestionHandlers,
  source: AskedSource,
): Promise<Answer | undefined> {
  switch (name) {
    case DESCRIBE:
      return describeAnswer({ outline: outline !== undefined, targets: targets !== undefined });
    case OUTLINE:
      return outline && outlineAnswer(wholeOutline(await outline()), source);
    case TARGETS:
      return targets && targetsAnswer((await targets()).map(wholeTarget), source);
    case LINT:
      return lint && lintReport(await lint(), source);
    case CONVERT:
      return graph && graphAnswer(decodeDefinition(definitionBytes(await graph())));
    default:
      return undefined;
  }
}

function wholeOutline({ name = '', description = '', args = [], secrets = [], ssh = [] }: BuildOutline) {
  return {
    name,
    description,
    args: args.map((arg) => ({ description: '', value: '', location: [], ...arg })),
    secrets: secrets.map(wholeNeed),
    ssh: ssh.map(wholeNeed),
  };
}

function wholeNeed({ name, required = false, location = [] }: OutlineNeed) {
  return { name, required, location };
}

function wholeTarget(target: BuildTarget) {
  const { name, isDefault = false, description = '', base = '', platform = '', location = [] } = target;
  return { name, isDefault, description, baseName: base, platform, location };
}

function lintReport({ warnings, error }: LintReport, source: AskedSource): Answer {
  const whole = warnings.map((one) => ({ description: '', url: '', location: [], ...one }));
  return lintAnswer(whole, error && { location: [], ...error }, source);
}
