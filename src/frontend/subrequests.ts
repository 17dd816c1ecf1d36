import { BuildError } from '../base/errors.ts';
import type { ConvertResult } from '../dockerfile/convert/options.ts';
import { locationsOf } from '../dockerfile/errors.ts';
import { parseStages } from '../dockerfile/instructions/parse.ts';
import type { LintWarning } from '../dockerfile/lint/linter.ts';
import { parseDockerfile } from '../dockerfile/parser.ts';
import type { Definition } from '../llb/ops.ts';
import type { DockerfileSource } from './dockerfile-context.ts';
import type { FrontendResult } from './result.ts';
import {
  type Answer,
  answerMetadata,
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
} from './subrequest-answers.ts';

/** What a request needs of the frontend that serves it. */
export interface SubrequestContext {
  readonly source: DockerfileSource;
  readonly language: string;
  readonly target: string;
  readonly signal: AbortSignal;
  /** Understands the file without building it. Without `warn` the client is told about broken rules. */
  convert(options: {
    readonly allStages?: boolean;
    readonly warn?: (warning: LintWarning) => void;
  }): Promise<ConvertResult>;
  marshal(converted: ConvertResult): Definition;
}

type Handler = (context: SubrequestContext) => Answer | Promise<Answer>;

const HANDLERS: ReadonlyMap<string, Handler> = new Map<string, Handler>([
  [DESCRIBE, () => describeAnswer({ outline: true, targets: true })],
  [OUTLINE, outline],
  [TARGETS, targets],
  [LINT, lint],
  [CONVERT, async (context) => graphAnswer(context.marshal(await context.convert({})))],
]);

/**
 * Answers a question about the Dockerfile (FEATURES H81-H86).
 * @throws {BuildError} for a question that is not known
 */
export async function answerSubrequest(
  name: string,
  context: SubrequestContext,
): Promise<FrontendResult<never>> {
  const handler = HANDLERS.get(name);
  if (!handler) throw unsupportedRequest(name);
  return { ref: null, metadata: answerMetadata(await handler(context)) };
}

function targets({ source }: SubrequestContext): Answer {
  const { stages } = parseStages(parseDockerfile(source.text).nodes);
  const list = stages.map((stage, index) => ({ ...stage, isDefault: index === stages.length - 1 }));
  return targetsAnswer(list, source);
}

async function outline(context: SubrequestContext): Promise<Answer> {
  const converted = await context.convert({});
  return outlineAnswer(converted.outline(), context.source);
}

/** Checks the file. Without a target all stages count. What breaks the build is part of the answer. */
async function lint(context: SubrequestContext): Promise<Answer> {
  const { source, language, target, signal } = context;
  const warnings: LintWarning[] = [];
  const failure = await context
    .convert({ allStages: target === '', warn: (warning) => warnings.push(warning) })
    .then(
      () => undefined,
      (error: unknown) => BuildError.from(error),
    );
  signal.throwIfAborted();
  const broken = failure && { message: failure.message, location: locationsOf(failure).flat() };
  return lintAnswer(warnings, broken, { ...source, language });
}
