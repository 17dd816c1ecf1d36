import { randomBytes } from 'node:crypto';
import { type Attestation, keyInlineOnly, keyReason } from '../attest/attestation.ts';
import { buildConfigJson, type StepUsage, sourceJson, stepId, stepsOf } from '../attest/build-config.ts';
import { Capture, type ImageMaterial } from '../attest/capture.ts';
import {
  type BuildFacts,
  encodePredicate,
  type FullDetails,
  hasAllMaterials,
  provenanceType,
  type SlsaVersion,
} from '../attest/predicate.ts';
import { BuildError } from '../base/errors.ts';
import { parseBool } from '../base/flags.ts';
import { DOCKERFILE_VERSION } from '../base/version.ts';
import { type ResultPlatform, toldPlatforms } from '../exporter/platforms.ts';
import { PREDICATE_TYPE } from '../exporter/attestation-manifest.ts';
import type { AttestOptions, ProvenanceOptions } from '../frontend/attest-options.ts';
import type { RequestScope } from '../frontend/requests.ts';
import { type FrontendResult, type LazyRef, refsOf } from '../frontend/result.ts';
import { descriptorToJson } from '../oci/manifest.ts';
import { formatPlatform, hostPlatform } from '../oci/platform.ts';
import { PlatformMatcher } from '../oci/platform-match.ts';
import { timeFromDate } from '../oci/time.ts';
import { mediaTypeInToto } from '../oci/media-types.ts';
import type { Recording } from './history/recording.ts';
import { incompleteMaterials } from './incomplete-materials.ts';
import type { SystemUsage } from './system-usage.ts';

type Result = FrontendResult<LazyRef>;

/** What provenance tells of a build as a whole. */
export interface BuildRun {
  readonly invocationId: string;
  readonly started: Date;
  /** When the result was there: the time of the first question. */
  finished(): Date;
  readonly compatibilityVersion: number;
  /** Of the daemon's configuration. */
  readonly environment: Readonly<Record<string, unknown>>;
  readonly usage: Pick<SystemUsage, 'samples'>;
}

export function startRun(
  options: Pick<BuildRun, 'compatibilityVersion' | 'environment' | 'usage'>,
): BuildRun {
  let finished: Date | undefined;
  return {
    ...options,
    invocationId: newInvocationId(),
    started: new Date(),
    finished: () => {
      finished ??= new Date();
      return finished;
    },
  };
}

const ID_CHARACTERS = '0123456789abcdefghijklmnopqrstuvwxyz';
const ID_LENGTH = 25;

function newInvocationId(): string {
  return Array.from(randomBytes(ID_LENGTH), (byte) => ID_CHARACTERS[byte % ID_CHARACTERS.length]).join('');
}

/** What is known of the build of each tree of a result, by the key of its ref ('' for the only one). */
export function factsOf(result: Result, scope: RequestScope): ReadonlyMap<string, BuildFacts> {
  const refs = result.refs ? [...result.refs] : [['', result.ref] as const];
  const platforms = toldPlatforms(result);
  return new Map(
    refs.flatMap(([key, ref]) =>
      ref ? [[key, refFacts(ref, result.refs ? key : '', result, scope, platforms)]] : [],
    ),
  );
}

function refFacts(
  ref: LazyRef,
  key: string,
  result: Result,
  whole: RequestScope,
  platforms: readonly ResultPlatform[],
): BuildFacts {
  const scope = whole.scopeOf(ref);
  if (!scope) throw new BuildError(`could not find request for ref ${ref.id}`);
  const own = ref.solved?.capture ?? new Capture();
  const capture = new Capture();
  capture.merge(own);
  const direct = new Set(refsOf(result));
  for (const other of new Set(scope.refs()))
    if (!direct.has(other) && other.solved) capture.merge(other.solved.capture);
  const looked = scope.images();
  for (const image of key === '' ? looked : ofPlatform(key, looked, platforms)) capture.addImage(image);
  capture.dropPinned();
  return { capture, request: scope.record(capture), root: scope.root(own) };
}

/** Of an image that was looked up for every platform, only what was found for this one. */
function ofPlatform(
  key: string,
  images: readonly ImageMaterial[],
  platforms: readonly ResultPlatform[],
): ImageMaterial[] {
  const forAll = new Set(
    images
      .filter(({ ref }) =>
        platforms.every(({ platform }) => {
          const matcher = new PlatformMatcher(platform);
          return images.some(
            (other) => other.ref === ref && other.platform && matcher.matches(other.platform),
          );
        }),
      )
      .map(({ ref }) => ref),
  );
  const current = platforms.find(({ id }) => id === key)?.platform;
  return images.filter(({ ref, platform }) => {
    if (!platform || !forAll.has(ref)) return true;
    return platform.os === current?.os && platform.architecture === current.architecture;
  });
}

/** How a predicate is to be written. */
export interface ProvenanceStyle {
  readonly version: SlsaVersion;
  readonly mode: 'min' | 'max';
  readonly builderId: string;
  readonly reproducible: boolean;
  /** Tell what the machine did meanwhile. */
  readonly usage: boolean;
}

/** @throws BuildError for a value that makes no sense */
export function provenanceStyle({ version, attrs }: ProvenanceOptions): ProvenanceStyle {
  const { mode = 'max' } = attrs;
  if (mode !== 'min' && mode !== 'max' && mode !== 'full')
    throw new BuildError(`invalid mode ${JSON.stringify(mode)}`);
  return {
    version,
    mode: mode === 'min' ? 'min' : 'max',
    builderId: attrs['builder-id'] ?? '',
    reproducible: flag(attrs, 'reproducible'),
    usage: parseBool(attrs['capture-usage'] ?? '') === true,
  };
}

function flag(attrs: Readonly<Record<string, string>>, name: string): boolean {
  const text = attrs[name];
  if (text === undefined) return false;
  const value = parseBool(text);
  if (value !== undefined) return value;
  const quoted = JSON.stringify(text);
  throw new BuildError(
    `failed to parse ${name} flag ${quoted}: strconv.ParseBool: parsing ${quoted}: invalid syntax`,
  );
}

/** The predicate of one tree, indented JSON. */
export async function writeProvenance(
  ref: LazyRef,
  facts: BuildFacts,
  style: ProvenanceStyle,
  run: BuildRun,
  signal: AbortSignal,
): Promise<string> {
  const finished = run.finished();
  const usage = style.usage ? facts.capture.usage : undefined;
  const full = style.mode === 'max' ? await fullDetails(ref, usage, signal) : undefined;
  return encodePredicate(style.version, facts, style.mode, {
    builderId: style.builderId,
    builderPlatform: formatPlatform(hostPlatform()),
    dockerfileVersion: DOCKERFILE_VERSION,
    environment: run.environment,
    reproducible: style.reproducible,
    invocationId: run.invocationId,
    started: timeFromDate(run.started),
    finished: timeFromDate(finished),
    compatibilityVersion: run.compatibilityVersion,
    ...(full ? { full } : {}),
    ...(style.usage ? { usage: run.usage.samples() } : {}),
  });
}

async function fullDetails(
  ref: LazyRef,
  usage: StepUsage | undefined,
  signal: AbortSignal,
): Promise<FullDetails> {
  const { definition, solved } = ref;
  const steps = stepsOf(definition);
  const layers = new Map<string, unknown>();
  for (const one of (await solved?.layers(signal)) ?? []) {
    const number = steps.numbers.get(one.vertex);
    if (number !== undefined)
      layers.set(`${stepId(number)}:${one.output}`, [one.layers.map(descriptorToJson)]);
  }
  const source = definition && sourceJson(definition, steps, usage);
  return { buildConfig: buildConfigJson(steps, usage), source, layers };
}

/** The result with the provenance of each of its platforms (FEATURES J35). @throws BuildError */
export function withProvenance(
  result: Result,
  facts: ReadonlyMap<string, BuildFacts>,
  options: ProvenanceOptions,
  run: BuildRun,
): Result {
  const style = provenanceStyle(options);
  const { attrs } = options;
  const inlineOnly = parseBool(attrs['inline-only'] ?? '') === true;
  const complete = flag(attrs, 'complete-materials');
  const metadata = new Map([
    [keyReason, Buffer.from('provenance')],
    [keyInlineOnly, Buffer.from(String(inlineOnly))],
  ]);
  const attestations = new Map(result.attestations);
  for (const { id } of toldPlatforms(result)) {
    const key = keyOf(result, id);
    const ref = result.refs ? result.refs.get(key) : result.ref;
    const own = facts.get(key);
    if (!ref || !own) continue;
    if (complete && !hasAllMaterials(own)) throw incompleteMaterials(own.capture);
    const attestation: Attestation<LazyRef> = {
      kind: 'in-toto',
      metadata,
      ref: null,
      path: attrs.filename ?? 'provenance.json',
      content: async (signal) => Buffer.from(await writeProvenance(ref, own, style, run, signal)),
      predicateType: provenanceType(style.version),
      subjects: [],
    };
    attestations.set(id, [...(attestations.get(id) ?? []), attestation]);
  }
  return { ...result, attestations };
}

/** The history keeps all that is known of every build, whatever was asked for (FEATURES B36). */
export async function attachProvenance(
  recording: Recording | undefined,
  result: Result,
  facts: ReadonlyMap<string, BuildFacts>,
  { provenance }: AttestOptions,
  run: BuildRun,
  signal: AbortSignal,
): Promise<void> {
  const builderId = provenance?.attrs['builder-id'] ?? '';
  const style: ProvenanceStyle = {
    version: 'v1',
    mode: 'max',
    builderId,
    reproducible: false,
    usage: true,
  };
  const annotations = { [PREDICATE_TYPE]: provenanceType(style.version) };
  for (const [key, own] of facts) {
    const ref = result.refs ? result.refs.get(key) : result.ref;
    if (!ref) continue;
    const about = { mediaType: mediaTypeInToto, annotations, ...(result.refs ? { key } : {}) };
    await recording?.attach(
      async () => Buffer.from(await writeProvenance(ref, own, style, run, signal)),
      about,
    );
  }
}

/** Key of a platform's ref in a result. A map of one serves any platform. @throws when there is none */
export function keyOf(result: Result, id: string): string {
  if (!result.refs) return '';
  if (result.refs.has(id)) return id;
  const [only, ...others] = result.refs.keys();
  if (only !== undefined && others.length === 0) return only;
  throw new BuildError(`no build info found for provenance ${id}`);
}
