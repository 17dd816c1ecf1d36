import { goJsonIndent, omitEmpty } from '../base/gojson.ts';
import { BuildError } from '../base/errors.ts';
import { digestOf } from '../base/digest.ts';
import type { Outline, OutlineArg, OutlineSecret } from '../dockerfile/convert/outline.ts';
import type { Location } from '../dockerfile/location.ts';
import type { LintWarning } from '../dockerfile/lint/linter.ts';
import { type Definition, Op, Source } from '../llb/ops.ts';
import { definitionJson, metadataJson } from './definition-json.ts';
import { protoJson } from './proto-json.ts';
import { describeText, lintText, outlineText, targetsText } from './subrequest-text.ts';

const VERSION = '1.0.0';
export const DESCRIBE = 'frontend.subrequests.describe';
export const OUTLINE = 'frontend.outline';
export const TARGETS = 'frontend.targets';
export const LINT = 'frontend.lint';
export const CONVERT = 'frontend.convertllb';

/** What is answered to a question that a client asks in place of a build (FEATURES I21). */
export interface Answer {
  readonly json: unknown;
  /** Absent for an answer that is for programs alone. */
  readonly text?: string;
  readonly statusCode?: number;
  readonly version?: string;
}

/** A file that an answer is about. */
export interface AskedSource {
  readonly filename: string;
  readonly language: string;
  readonly text: string;
  readonly data: Uint8Array;
  readonly definition?: Definition;
}

/** As an outline, without what only its making needs. */
export type OutlineParts = Omit<Outline, 'args'> & { readonly args: readonly Omit<OutlineArg, 'deps'>[] };

/** A stage that can be built. */
export interface TargetParts {
  readonly name: string;
  readonly isDefault: boolean;
  readonly description: string;
  readonly baseName: string;
  readonly platform: string;
  readonly location: Location;
}

/** Metadata of the result that carries an answer. */
export function answerMetadata({
  json,
  text,
  statusCode,
  version = VERSION,
}: Answer): Map<string, Uint8Array> {
  const entries = [
    ['result.json', goJsonIndent(json, '  ')],
    ...(text === undefined ? [] : [['result.txt', text] as const]),
    ...(statusCode === undefined ? [] : [['result.statuscode', String(statusCode)] as const]),
    ['version', version],
  ] as const;
  return new Map(entries.map(([key, value]) => [key, Buffer.from(value)]));
}

/** @returns the error for a question that is not known */
export function unsupportedRequest(name: string): BuildError {
  return new BuildError(`unsupported request ${name}`, {
    details: [{ type: 'errdefs.Subrequest', value: { name } }],
  });
}

const named = (name: string, description = ''): object => ({ name, description });

/** Which questions can be asked; of those in `served` and this one itself. */
export function describeAnswer(served: { readonly outline: boolean; readonly targets: boolean }): Answer {
  const known = [
    {
      name: OUTLINE,
      description: 'List all parameters current build target supports',
      opts: [named('target', 'Target build stage')],
    },
    { name: TARGETS, description: 'List all targets current build supports', opts: [] },
    { name: DESCRIBE, description: 'List available subrequest types', opts: null },
  ]
    .filter(({ name }) => (name !== OUTLINE || served.outline) && (name !== TARGETS || served.targets))
    .map(({ name, description, opts }) => ({
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

/** Stages that can be built. */
export function targetsAnswer(list: readonly TargetParts[], source: Pick<AskedSource, 'data'>): Answer {
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

/** What the client can give to a build. */
export function outlineAnswer(outline: OutlineParts, { data }: Pick<AskedSource, 'data'>): Answer {
  return { json: outlineJson(outline, data), text: outlineText(outline) };
}

function outlineJson({ name, description, args, secrets, ssh }: OutlineParts, data: Uint8Array): object {
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

/** What is to be said of a file. What breaks the build is part of the answer. */
export function lintAnswer(
  warnings: readonly LintWarning[],
  failure: { readonly message: string; readonly location: Location } | undefined,
  source: AskedSource,
): Answer {
  const json = {
    warnings: warnings.length === 0 ? null : warnings.map(warningJson),
    sources: [
      {
        filename: omitEmpty(source.filename),
        data: omitEmpty(source.data),
        definition: source.definition && definitionJson(source.definition),
        language: source.language,
      },
    ],
    buildError: failure && {
      message: failure.message,
      location: locationJson(merged(failure.location)) ?? {},
    },
  };
  return { json, text: lintText(warnings, source), statusCode: warnings.length > 0 || failure ? 1 : 0 };
}

/** The graph of a build. */
export function graphAnswer(definition: Definition): Answer {
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
