import type { Attestation } from '../attest/attestation.ts';
import { parseDigest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { mayHoldBytes } from '../dockerfile/bytes.ts';
import { convertDockerfile } from '../dockerfile/convert/convert.ts';
import { encodeImage } from '../dockerfile/convert/image.ts';
import type { ConvertOptions, ConvertResult, ResolvedImage } from '../dockerfile/convert/options.ts';
import type { LintWarning } from '../dockerfile/lint/linter.ts';
import { atLocation, withSources } from '../dockerfile/errors.ts';
import { marshal } from '../llb/marshal.ts';
import type { SourceMap } from '../llb/node.ts';
import { type Definition, Op } from '../llb/ops.ts';
import { formatPlatformFull, hostPlatform, type Platform } from '../oci/platform.ts';
import type { VertexWarning } from '../solver/types.ts';
import type { Frontend } from './bridge.ts';
import { definitionJson } from './definition-json.ts';
import type { FrontendBridge } from './build-bridge.ts';
import { daemonBridge } from './dockerfile-bridge.ts';
import { BuildContext, type DockerfileSource } from './dockerfile-context.ts';
import { NamedContexts } from './dockerfile-named.ts';
import { type FrontendOptions, parseFrontendOptions } from './dockerfile-options.ts';
import { type ForeignSyntax, foreignError, frontendFor, type SyntaxNote } from './dockerfile-syntax.ts';
import { unsupportedCap } from './frontend-caps.ts';
import { platformId, platformResult, type PlatformTree } from './platform-result.ts';
import type { FrontendResult } from './result.ts';
import { openScanner, type Scanner, sbomAttestation } from './sbom.ts';
import { sourceTime } from './source-time.ts';
import { answerSubrequest } from './subrequests.ts';

const LANGUAGE = 'Dockerfile';
/** Runs frontend images. */
const GATEWAY = 'gateway.v0';
/** What clients may ask a frontend to understand (FEATURES I4). */
const SERVED_CAPS: readonly string[] = ['inputs', 'contexts', 'subrequests', 'gitquerystring'].map(
  (name) => `moby.buildkit.frontend.${name}`,
);

/**
 * `dockerfile.v0` inside the daemon.
 * @param served repositories of frontend images that it stands in for
 */
export function dockerfileFrontend(served: readonly string[]): Frontend {
  return (bridge, request, signal) => buildDockerfile(daemonBridge(bridge, request, signal, served));
}

/** Builds the Dockerfile that the options of `bridge` name, for all platforms asked for (FEATURES H). */
export async function buildDockerfile<R>(bridge: FrontendBridge<R>): Promise<FrontendResult<R>> {
  const options = parseFrontendOptions(bridge.options, bridge.workerPlatforms);
  const unknown = unknownCap(bridge.options.get('frontend.caps') ?? '');
  if (unknown && !unknown.forward) throw unknown.error;
  const context = await BuildContext.open(bridge, options.localSessions);
  const source = await context.readDockerfile();
  const located = <T>(run: () => Promise<T>): Promise<T> => withLines(source, run);
  const syntax = frontendFor(source.text, bridge.options, bridge.served);
  if ('image' in syntax) return forward(bridge, syntax, source);
  if (unknown) throw unknown.error;
  const { labs, note } = syntax;
  const request = bridge.options.get('requestid');
  const build = new DockerfileBuild(bridge, options, context, source, labs);
  // Errors of an answer come without lines of the file: who asks prints them in one line.
  if (request !== undefined) return build.answer(request);
  if (note) bridge.warn(warningOf(note, source));
  return located(() => build.run());
}

/** Errors of `run` that know their lines bring those of `source`. */
async function withLines<T>(source: DockerfileSource, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw withSources(error, {
      filename: source.filename,
      data: source.data,
      language: LANGUAGE,
      definition: definitionJson(source.definition),
    });
  }
}

/** Another frontend builds the file, from the same options (FEATURES I5). */
async function forward<R>(
  bridge: FrontendBridge<R>,
  syntax: ForeignSyntax,
  source: DockerfileSource,
): Promise<FrontendResult<R>> {
  const options = { cmdline: syntax.commandLine, source: syntax.image };
  try {
    return await bridge.runFrontend(GATEWAY, { ...Object.fromEntries(bridge.options), ...options });
  } catch (error) {
    const own = foreignError(error, syntax);
    const { location } = syntax;
    if (!location || own.details.some((d) => 'type' in d && d.type === 'errdefs.Source')) throw own;
    return withLines(source, () => Promise.reject(atLocation(own, location)));
  }
}

/** A capability that is asked for and not served: `forward` when another frontend may have it. */
function unknownCap(list: string): { readonly error: BuildError; readonly forward: boolean } | undefined {
  let found: { error: BuildError; forward: boolean } | undefined;
  for (const cap of list === '' ? [] : list.split(',')) {
    const name = cap.split('+', 1)[0] ?? '';
    if (SERVED_CAPS.includes(name)) continue;
    found = { error: unsupportedCap(name), forward: cap.includes('+forward') };
    if (!found.forward) break;
  }
  return found;
}

/** A warning at the step that brought the file. */
function warningOf(
  note: SyntaxNote & { readonly description?: string; readonly url?: string },
  source: DockerfileSource,
): VertexWarning {
  const last = Op.decode(source.definition.def.at(-1) ?? new Uint8Array());
  const vertex = parseDigest(last.inputs[0]?.digest ?? '');
  const { filename, data } = source;
  return {
    vertex,
    level: 1,
    short: Buffer.from(note.message),
    detail: note.description === undefined ? [] : [Buffer.from(note.description)],
    url: note.url ?? '',
    sourceInfo: { filename, data, language: LANGUAGE },
    ranges: note.location,
  };
}

interface PlatformBuild<R> {
  readonly tree: PlatformTree<R>;
  readonly converted: ConvertResult;
}

class DockerfileBuild<R> {
  readonly #bridge: FrontendBridge<R>;
  readonly #options: FrontendOptions;
  readonly #context: BuildContext<R>;
  readonly #source: DockerfileSource;
  readonly #named: NamedContexts<R>;
  readonly #labs: boolean;
  readonly #sourceMap: SourceMap;
  readonly #abort = new AbortController();

  constructor(
    bridge: FrontendBridge<R>,
    options: FrontendOptions,
    context: BuildContext<R>,
    source: DockerfileSource,
    labs: boolean,
  ) {
    this.#bridge = withMemory(bridge);
    this.#options = options;
    this.#context = context;
    this.#source = source;
    this.#labs = labs;
    this.#sourceMap = {
      filename: source.filename,
      language: LANGUAGE,
      data: source.data,
      definition: source.definition,
    };
    this.#named = new NamedContexts(this.#bridge, options.localSessions);
  }

  /** Answers a question about the file instead of building it. */
  answer(request: string): Promise<FrontendResult<R>> {
    return answerSubrequest(request, {
      source: this.#source,
      language: LANGUAGE,
      target: this.#options.target,
      signal: this.#bridge.signal,
      convert: (options) => this.#convert({ warn: (warning) => this.#warn(warning), ...options }),
      marshal: (converted) => this.#marshal(converted),
    });
  }

  async run(): Promise<FrontendResult<R>> {
    const { targetPlatforms } = this.#options;
    const wanted = targetPlatforms.length > 0 ? targetPlatforms : [undefined];
    const scanner = await this.#scanner();
    const builds = wanted.map((platform, index) => this.#build(platform, index === 0));
    try {
      const built = await Promise.all(builds);
      const said = scanner ? await this.#scanAll(scanner, built) : undefined;
      const trees = built.map(({ tree }) => tree);
      return platformResult(trees, this.#options.multiPlatform, said);
    } catch (error) {
      this.#abort.abort();
      await Promise.allSettled(builds);
      throw error;
    }
  }

  async #build(platform: Platform | undefined, first: boolean): Promise<PlatformBuild<R>> {
    const converted = await this.#convert({
      ...(platform ? { targetPlatform: platform } : {}),
      // The file is the same for all platforms.
      ...(first ? { warn: (warning: LintWarning) => this.#warn(warning) } : {}),
    });
    const ref = await this.#bridge.solve(
      wrapped(() => this.#marshal(converted)),
      this.#options.cacheImports,
    );
    const { image, baseImage, epoch } = converted;
    const tree = {
      platform,
      ref: ref?.value ?? null,
      imagePlatform: image.platform,
      config: encodeImage(image),
      ...(baseImage ? { baseConfig: encodeImage(baseImage) } : {}),
      ...(epoch === undefined ? {} : { epoch }),
    };
    return { tree, converted };
  }

  async #scanner(): Promise<Scanner | undefined> {
    const { sbom, buildPlatforms, imageResolveMode } = this.#options;
    if (!sbom) return undefined;
    const [platform = hostPlatform()] = buildPlatforms;
    const options = { platform, resolveMode: imageResolveMode, logName: '', signal: this.#bridge.signal };
    return openScanner(sbom, platform, (ref) => this.#bridge.resolveImage(ref, options));
  }

  /** What is in each platform's tree; the scans run when somebody wants to know. */
  async #scanAll(
    scanner: Scanner,
    builds: readonly PlatformBuild<R>[],
  ): Promise<ReadonlyMap<string, readonly Attestation<R>[]>> {
    const said = builds.map(async ({ tree, converted }) => {
      const id = platformId(tree.platform);
      const ref = await this.#bridge.solve(scanner.scan(id, converted.scan()), []);
      return [id, ref ? [sbomAttestation(ref.value)] : []] as const;
    });
    return new Map(await Promise.all(said));
  }

  #marshal(converted: ConvertResult): Definition {
    return marshal(converted.state, {
      platform: converted.platform,
      caps: this.#bridge.caps,
      checkText: mayHoldBytes(this.#source.text),
    });
  }

  #convert(change: Partial<ConvertOptions>): Promise<ConvertResult> {
    const {
      targetPlatforms: _all,
      cacheImports: _imports,
      localSessions: _sessions,
      sbom: _sbom,
      ...options
    } = this.#options;
    const { caps, signal } = this.#bridge;
    return convertDockerfile(this.#source.text, {
      ...options,
      caps,
      labs: this.#labs,
      sourceMap: this.#sourceMap,
      resolveImage: (ref, resolveOptions) => this.#bridge.resolveImage(ref, resolveOptions),
      namedContext: (name, namedOptions) => this.#named.find(name, namedOptions),
      ignorePatterns: () => this.#context.ignorePatterns(),
      mainContext: (paths) => this.#context.mainContext(paths),
      sourceTime: (state, logName) => sourceTime(this.#bridge, state, logName),
      signal: AbortSignal.any([signal, this.#abort.signal]),
      ...change,
    });
  }

  #warn({ rule, message, description, url, location }: LintWarning): void {
    const line = location[0]?.start.line ?? 0;
    const short = `${rule}: ${message}${line > 0 ? ` (line ${line})` : ''}`;
    this.#bridge.warn(warningOf({ message: short, description, url, location }, this.#source));
  }
}

function wrapped(encode: () => Definition): Definition {
  try {
    return encode();
  } catch (error) {
    throw BuildError.wrap(error, 'failed to marshal LLB definition');
  }
}

/** Asks once for the same image, platform and reason. */
function remembered<A extends readonly unknown[]>(
  resolve: (...asked: A) => Promise<ResolvedImage>,
  keyOf: (...asked: A) => readonly unknown[],
): (...asked: A) => Promise<ResolvedImage> {
  const answers = new Map<string, Promise<ResolvedImage>>();
  return (...asked) => {
    const key = JSON.stringify(keyOf(...asked));
    const known = answers.get(key);
    if (known) return known;
    const answer = resolve(...asked);
    answers.set(key, answer);
    return answer;
  };
}

/** The bridge with a memory: platforms of one build ask for the same images. */
function withMemory<R>(bridge: FrontendBridge<R>): FrontendBridge<R> {
  return {
    ...bridge,
    resolveImage: remembered(bridge.resolveImage, (ref, { platform, resolveMode, logName }) => [
      ref,
      formatPlatformFull(platform),
      resolveMode,
      logName,
    ]),
    resolveLayout: remembered(bridge.resolveLayout, (ref, store, { platform, logName }) => [
      ref,
      store,
      platform && formatPlatformFull(platform),
      logName,
    ]),
  };
}
