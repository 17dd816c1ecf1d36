import { digestOf } from '../../base/digest.ts';
import { BuildError } from '../../base/errors.ts';
import { ENABLED_CAPS, UNSERVED_CAPS } from '../../llb/caps.ts';
import { local } from '../../llb/source.ts';
import { readIgnoreFile } from '../../match/ignorefile.ts';
import {
  formatPlatformFull,
  hostPlatform,
  normalizePlatform,
  type Platform,
  parsePlatform,
} from '../../oci/platform.ts';
import { normalizeReference } from '../../oci/reference.ts';
import { decodeText } from '../bytes.ts';
import { findSyntax, isLabs } from '../directives.ts';
import type { ConvertOptions as InnerOptions, ImageResolver as InnerResolver } from '../convert/options.ts';
import { parseLintConfig } from '../lint/linter.ts';
import type { ConvertOptions, ImageResolver, LintWarning, ResolvedImage } from './types.ts';

const CONTEXT = 'context';
/** Hexadecimal digits. */
const ID_LENGTH = 32;

export function textOf(file: string | Uint8Array): string {
  return typeof file === 'string' ? file : decodeText(file);
}

/** The options as the conversion takes them, with defaults filled in. */
export function innerOptions(
  file: string | Uint8Array,
  options: ConvertOptions,
  warn: (warning: LintWarning) => void,
): InnerOptions {
  const { platform, buildPlatform, signal } = options;
  const patterns = options.ignoreFile === undefined ? [] : readIgnoreFile(options.ignoreFile);
  const contextName = options.contextName ?? CONTEXT;
  return {
    buildArgs: mapOf(options.buildArgs),
    labels: mapOf(options.labels),
    target: options.target ?? '',
    ...(platform === undefined ? {} : { targetPlatform: platformOf(platform) }),
    buildPlatforms: [buildPlatform === undefined ? hostPlatform() : platformOf(buildPlatform)],
    multiPlatform: options.multiPlatform ?? false,
    networkMode: options.network ?? 'sandbox',
    hostname: options.hostname ?? '',
    extraHosts: options.extraHosts ?? [],
    shmSize: BigInt(options.shmSize ?? 0),
    ulimits: (options.ulimits ?? []).map(({ name, soft, hard }) => ({
      name,
      soft: BigInt(soft),
      hard: BigInt(hard),
    })),
    cgroupParent: options.cgroupParent ?? '',
    imageResolveMode: options.resolveMode ?? 'default',
    cacheIdNamespace: options.cacheIdNamespace ?? '',
    isNoCache: noCache(options.noCache ?? false),
    caps: capabilitiesOf(options),
    labs: isLabs(findSyntax(textOf(file))?.value ?? ''),
    sourceMap: {
      filename: options.filename ?? 'Dockerfile',
      language: 'Dockerfile',
      data: typeof file === 'string' ? Buffer.from(file) : file,
    },
    resolveImage: resolver(options.resolveImage),
    namedContext: () => undefined,
    mainContext: async (paths) =>
      local(contextName, {
        excludePatterns: patterns,
        sharedKeyHint: contextName,
        customName: '[internal] load build context',
        ...(paths ? { followPaths: paths } : {}),
        ...(options.sessionId === undefined ? {} : { sessionId: options.sessionId }),
      }),
    ignorePatterns: async () => patterns,
    warn,
    ...(options.check === undefined ? {} : { lint: parseLintConfig(options.check) }),
    ...(options.uniqueId === undefined ? {} : { newId: idsOf(options.uniqueId) }),
    ...(signal ? { signal } : {}),
  };
}

export function capabilitiesOf({ capabilities }: ConvertOptions): ReadonlySet<string> {
  return new Set(capabilities ?? [...ENABLED_CAPS, ...UNSERVED_CAPS]);
}

/** The same ids each time, and others for another build. */
function idsOf(uniqueId: string): () => string {
  let count = 0;
  return () => digestOf(`${uniqueId}/${count++}`).slice(-ID_LENGTH);
}

function mapOf(record: Readonly<Record<string, string>> = {}): Map<string, string> {
  return new Map(Object.entries(record));
}

function platformOf(text: string): Platform {
  try {
    return normalizePlatform(parsePlatform(text));
  } catch (error) {
    throw BuildError.wrap(error, `failed to parse platform ${text}`);
  }
}

function noCache(wanted: boolean | readonly string[]): (stage: string) => boolean {
  if (typeof wanted === 'boolean') return () => wanted;
  const names = new Set(wanted.map((name) => name.toLowerCase()));
  return (stage) => names.has(stage.toLowerCase());
}

function resolver(resolve: ImageResolver | undefined): InnerResolver {
  const asked = new Map<string, Promise<ResolvedImage>>();
  return async (ref, { platform, resolveMode, signal }) => {
    if (!resolve)
      throw new BuildError(`${ref}: no resolver for images was given`, {
        hint: 'Give the option resolveImage to convert files with base images.',
      });
    const name = normalizeReference(ref);
    const wanted = formatPlatformFull(platform);
    const key = `${name} ${wanted} ${resolveMode}`;
    const known = asked.get(key);
    const answer =
      known ??
      (async () => resolve(name, { platform: wanted, resolveMode, ...(signal ? { signal } : {}) }))();
    asked.set(key, answer);
    const { digest, config } = await answer;
    return { ref, digest: digest ?? '', config: bytesOf(config) };
  };
}

function bytesOf(config: ResolvedImage['config']): Uint8Array {
  if (config instanceof Uint8Array) return config;
  return Buffer.from(typeof config === 'string' ? config : JSON.stringify(config));
}
