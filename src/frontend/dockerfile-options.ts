import { BuildError } from '../base/errors.ts';
import type { ConvertOptions, NetworkMode, ResolveMode } from '../dockerfile/convert/options.ts';
import { csvFields } from '../dockerfile/instructions/csv.ts';
import { type LintConfig, parseLintConfig } from '../dockerfile/lint/linter.ts';
import { cut, intProblem, parseBool, parseInt64, quote } from '../dockerfile/text.ts';
import { shortestIp } from '../llb/ip.ts';
import { hostPlatform, normalizePlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import { parseAttestOptions, type SbomOptions } from './attest-options.ts';
import type { CacheImport } from './bridge.ts';
import { parseResources, parseUlimits } from './dockerfile-limits.ts';
import { jsonProblem } from './json-problem.ts';

type Options = ReadonlyMap<string, string>;

/** The part of the conversion's options that comes from the client's words (FEATURES H3-H12). */
export interface FrontendOptions
  extends Pick<
    ConvertOptions,
    | 'buildArgs'
    | 'labels'
    | 'target'
    | 'buildPlatforms'
    | 'multiPlatform'
    | 'networkMode'
    | 'hostname'
    | 'extraHosts'
    | 'shmSize'
    | 'ulimits'
    | 'cgroupParent'
    | 'resources'
    | 'imageResolveMode'
    | 'cacheIdNamespace'
    | 'isNoCache'
    | 'lint'
  > {
  /** Empty when the client asked for none. */
  readonly targetPlatforms: readonly Platform[];
  readonly cacheImports: readonly CacheImport[];
  /** Session that serves a local folder, by the folder's name. */
  readonly localSessions: ReadonlyMap<string, string>;
  readonly sbom?: SbomOptions;
}

/** @throws {BuildError} that names the option at fault */
export function parseFrontendOptions(
  options: Options,
  workerPlatforms: readonly Platform[],
): FrontendOptions {
  refuseRemoved(options);
  const get = (key: string): string => options.get(key) ?? '';
  const targetPlatforms = parsePlatforms(get('platform'));
  // In this order: of several bad options the first one is told.
  return {
    targetPlatforms,
    buildPlatforms: [workerPlatforms[0] ?? hostPlatform()],
    imageResolveMode: parseResolveMode(get('image-resolve-mode')),
    extraHosts: prefixed('failed to parse additional hosts', () => parseHosts(get('add-hosts'))),
    shmSize: prefixed('failed to parse shm size', () => parseSize(get('shm-size'))),
    ulimits: prefixed('failed to parse ulimit', () => parseUlimits(get('ulimit'))),
    ...resourceOptions(options),
    networkMode: parseNetwork(get('force-network-mode')),
    isNoCache: parseNoCache(options.get('no-cache')),
    multiPlatform: parseMultiPlatform(
      get('build-arg:BUILDKIT_MULTI_PLATFORM') || get('multi-platform'),
      targetPlatforms.length,
    ),
    cacheImports: [...parseCacheImports(get('cache-imports')), ...registryImports(get('cache-from'))],
    ...sbomOptions(options),
    ...lintOptions(options),
    buildArgs: withPrefix(options, 'build-arg:'),
    labels: withPrefix(options, 'label:'),
    cacheIdNamespace: get('build-arg:BUILDKIT_CACHE_MOUNT_NS'),
    cgroupParent: get('cgroup-parent'),
    target: get('target'),
    hostname: get('build-arg:BUILDKIT_SANDBOX_HOSTNAME') || get('hostname'),
    localSessions: withPrefix(options, 'local-sessionid:'),
  };
}

function resourceOptions(options: Options): Pick<ConvertOptions, 'resources'> {
  const resources = prefixed('failed to parse resource limits', () => parseResources(options));
  return resources ? { resources } : {};
}

function refuseRemoved(options: Options): void {
  if (options.get('override-copy-image'))
    throw new BuildError('support for "override-copy-image" was removed in BuildKit 0.11');
  if (parseBool(options.get('build-arg:BUILDKIT_DISABLE_FILEOP') ?? ''))
    throw new BuildError('support for "BUILDKIT_DISABLE_FILEOP" build-arg was removed in BuildKit 0.11');
}

const LINT_ARG = 'build-arg:BUILDKIT_DOCKERFILE_CHECK';

function lintOptions(options: Options): { lint?: LintConfig } {
  const written = options.get(LINT_ARG);
  if (written === undefined) return {};
  return prefixed(`failed to parse ${LINT_ARG}`, () => ({ lint: parseLintConfig(written) }));
}

/** Provenance is the daemon's own work. */
function sbomOptions(options: Options): { sbom?: SbomOptions } {
  const { sbom } = parseAttestOptions(options);
  return sbom ? { sbom } : {};
}

function prefixed<T>(prefix: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw BuildError.wrap(error, prefix);
  }
}

function withPrefix(options: Options, prefix: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of options) {
    if (key.startsWith(prefix)) found.set(key.slice(prefix.length), value);
  }
  return found;
}

function parsePlatforms(list: string): Platform[] {
  if (list === '') return [];
  return list
    .split(',')
    .map((item) =>
      prefixed(`failed to parse target platform ${item}`, () => normalizePlatform(parsePlatform(item))),
    );
}

function parseResolveMode(text: string): ResolveMode {
  if (text === '' || text === 'default') return 'default';
  if (text === 'pull' || text === 'local') return text;
  throw new BuildError(`invalid image-resolve-mode: ${text}`);
}

function parseNetwork(text: string): NetworkMode {
  if (text === '') return 'sandbox';
  if (text === 'none' || text === 'host' || text === 'sandbox') return text;
  throw new BuildError(`invalid netmode ${text}`);
}

function parseHosts(list: string): { host: string; ip: string }[] {
  if (list === '') return [];
  return csvFields(list).map((field) => {
    const [host, ip] = cut(field.toLowerCase(), '=');
    if (ip === undefined) throw new BuildError(`invalid key-value pair ${field}`);
    const short = shortestIp(ip);
    if (short === undefined) throw new BuildError(`failed to parse IP ${ip}`);
    return { host, ip: short };
  });
}

function parseSize(text: string): bigint {
  if (text === '') return 0n;
  const bytes = parseInt64(text);
  if (bytes === undefined) throw new BuildError(intProblem(text));
  return bytes;
}

function parseNoCache(text: string | undefined): (stageName: string) => boolean {
  if (text === undefined) return () => false;
  if (text === '') return () => true;
  const names = new Set(text.toLowerCase().split(','));
  return (stageName) => names.has(stageName.toLowerCase());
}

function parseMultiPlatform(text: string, count: number): boolean {
  if (text === '') return count > 1;
  const wanted = parseBool(text);
  if (wanted === undefined) throw new BuildError(`invalid boolean value for multi-platform: ${text}`);
  if (!wanted && count > 1)
    throw new BuildError('conflicting config: returning multiple target platforms is not allowed');
  return wanted;
}

function parseCacheImports(json: string): CacheImport[] {
  if (json === '') return [];
  return prefixed(`failed to unmarshal cache-imports (${quote(json)})`, () => {
    const problem = jsonProblem(json);
    if (problem !== undefined) throw new BuildError(problem);
    const list: unknown = JSON.parse(json) ?? [];
    const refused = (value: unknown, type: string) =>
      new BuildError(`json: cannot unmarshal ${kindOf(value)} into Go value of type ${type}`);
    const entry = 'moby_buildkit_v1.CacheOptionsEntry';
    if (!Array.isArray(list)) throw refused(list, `[]*${entry}`);
    const wrong: unknown = list.find((item) => item !== null && kindOf(item) !== 'object');
    if (wrong !== undefined) throw refused(wrong, entry);
    return list.map((item: { Type?: unknown; Attrs?: unknown } | null) => ({
      type: String(item?.Type ?? ''),
      attrs: Object.fromEntries(
        Object.entries(item?.Attrs ?? {}).map(([key, value]) => [key, String(value)]),
      ),
    }));
  });
}

/** What JSON calls a value. */
function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  return typeof value === 'boolean' ? 'bool' : typeof value;
}

function registryImports(list: string): CacheImport[] {
  if (list === '') return [];
  return list.split(',').map((ref) => ({ type: 'registry', attrs: { ref } }));
}
