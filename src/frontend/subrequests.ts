import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { goJsonIndent, omitEmpty } from '../base/gojson.ts';
import type { ConvertResult } from '../dockerfile/convert/options.ts';
import type { Outline, OutlineSecret } from '../dockerfile/convert/outline.ts';
import { locationsOf } from '../dockerfile/errors.ts';
import type { Location } from '../dockerfile/location.ts';
import { parseStages } from '../dockerfile/instructions/parse.ts';
import type { LintWarning } from '../dockerfile/lint/linter.ts';
import { parseDockerfile } from '../dockerfile/parser.ts';
import { type Definition, Op, Source } from '../llb/ops.ts';
import { definitionJson, metadataJson } from './definition-json.ts';
import type { DockerfileSource } from './dockerfile-context.ts';
import { protoJson } from './proto-json.ts';
import type { FrontendResult } from './result.ts';
import { describeText, lintText, outlineText, targetsText } from './subrequest-text.ts';

const VERSION = '1.0.0';

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

interface Answer {
  readonly json: unknown;
  /** Absent for an answer that is for programs alone. */
  readonly text?: string;
  readonly statusCode?: number;
  readonly version?: string;
}

type Handler = (context: SubrequestContext) => Answer | Promise<Answer>;

const HANDLERS: ReadonlyMap<string, Handler> = new Map<string, Handler>([
  ['frontend.subrequests.describe', describe],
  ['frontend.outline', outline],
  ['frontend.targets', targets],
  ['frontend.lint', lint],
  ['frontend.convertllb', convertLlb],
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
  if (!handler)
    throw new BuildError(`unsupported request ${name}`, {
      details: [{ type: 'errdefs.Subrequest', value: { name } }],
    });
  const { json, text, statusCode, version = VERSION } = await handler(context);
  const entries = [
    ['result.json', goJsonIndent(json, '  ')],
    ...(text === undefined ? [] : [['result.txt', text] as const]),
    ...(statusCode === undefined ? [] : [['result.statuscode', String(statusCode)] as const]),
    ['version', version],
  ] as const;
  return { ref: null, metadata: new Map(entries.map(([key, value]) => [key, Buffer.from(value)])) };
}

const named = (name: string, description = ''): object => ({ name, description });

function describe(): Answer {
  const known = [
    {
      name: 'frontend.outline',
      description: 'List all parameters current build target supports',
      opts: [named('target', 'Target build stage')],
    },
    { name: 'frontend.targets', description: 'List all targets current build supports', opts: [] },
    { name: 'frontend.subrequests.describe', description: 'List available subrequest types', opts: null },
  ].map(({ name, description, opts }) => ({
    name,
    version: VERSION,
    type: 'rpc',
    description,
    opts,
    inputs: null,
    metadata: [named('result.json'), named('result.txt')],
    refs: null,
  }));
  return { json: known, text: describeText(known) };
}

function targets({ source }: SubrequestContext): Answer {
  const { stages } = parseStages(parseDockerfile(source.text).nodes);
  const list = stages.map((stage, index) => ({ ...stage, isDefault: index === stages.length - 1 }));
  const json = list.map(({ name, isDefault, description, baseName, platform, location }) => ({
    name: omitEmpty(name),
    default: omitEmpty(isDefault),
    description: omitEmpty(description),
    base: omitEmpty(baseName),
    platform: omitEmpty(platform),
    location: locationJson(location),
  }));
  return {
    json: { targets: json.length === 0 ? null : json, sources: [source.data] },
    text: targetsText(list),
  };
}

async function outline(context: SubrequestContext): Promise<Answer> {
  const converted = await context.convert({});
  const found = converted.outline();
  return { json: outlineJson(found, context.source.data), text: outlineText(found) };
}

function outlineJson({ name, description, args, secrets, ssh }: Outline, data: Uint8Array): object {
  return {
    name: omitEmpty(name),
    description: omitEmpty(description),
    args: omitEmpty(
      args.map((arg) => ({
        name: arg.name,
        description: omitEmpty(arg.description),
        value: omitEmpty(arg.value),
        location: locationJson(arg.location),
      })),
    ),
    secrets: omitEmpty(secrets.map(secretJson)),
    ssh: omitEmpty(ssh.map(secretJson)),
    sources: [data],
  };
}

function secretJson({ name, required, location }: OutlineSecret): object {
  return { name, required: omitEmpty(required), location: locationJson(location) };
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
  const json = {
    warnings: warnings.length === 0 ? null : warnings.map(warningJson),
    sources: [
      {
        filename: omitEmpty(source.filename),
        data: omitEmpty(source.data),
        definition: definitionJson(source.definition),
        language,
      },
    ],
    buildError: failure && {
      message: failure.message,
      location: locationJson(merged(locationsOf(failure).flat())) ?? {},
    },
  };
  return { json, text: lintText(warnings, source), statusCode: warnings.length > 0 || failure ? 1 : 0 };
}

/** The graph of the build without building it. */
async function convertLlb(context: SubrequestContext): Promise<Answer> {
  const definition = context.marshal(await context.convert({}));
  const ops = definition.def.map((bytes) => [digestOf(bytes), protoJson(Op.decode(bytes))] as const);
  const json = {
    def: new Map<string, unknown>(ops),
    metadata: metadataJson(definition).metadata ?? {},
    // Decoded, its fields stand in the order of the message.
    source: protoJson(definition.Source ? Source.decode(Source.encode(definition.Source).finish()) : {}),
  };
  return { json, version: '0.1.0' };
}

function warningJson({ rule, description, url, message, location }: LintWarning): object {
  return {
    ruleName: rule,
    description: omitEmpty(description),
    url: omitEmpty(url),
    detail: omitEmpty(message),
    location: locationJson(location) ?? {},
  };
}

/** The message of the wire in JSON; its one source has index 0, which is left out as all zeros are. */
function locationJson(location: Location): object | undefined {
  if (location.length === 0) return undefined;
  const position = ({ line, character }: Location[number]['start']): object => ({
    line: omitEmpty(line),
    character: omitEmpty(character),
  });
  return { ranges: location.map(({ start, end }) => ({ start: position(start), end: position(end) })) };
}

/** Sorted by line, each line once. */
function merged(location: Location): Location {
  const out: Location[number][] = [];
  for (const range of location.toSorted((a, b) => a.start.line - b.start.line)) {
    const last = out.at(-1);
    if (!last || range.start.line > last.end.line) out.push(range);
    else if (range.end.line > last.end.line) out[out.length - 1] = { start: last.start, end: range.end };
  }
  return out;
}
