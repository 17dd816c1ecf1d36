import { BuildError } from '../../base/errors.ts';
import { encodeDefinition } from '../../llb/encode.ts';
import { marshal } from '../../llb/marshal.ts';
import { formatPlatformFull, hostPlatform, normalizePlatform, parsePlatform } from '../../oci/platform.ts';
import { mayHoldBytes } from '../bytes.ts';
import { convertDockerfile } from '../convert/convert.ts';
import { encodeImage } from '../convert/image.ts';
import type { ConvertResult } from '../convert/options.ts';
import { locationsOf } from '../errors.ts';
import { publicError } from './error.ts';
import { capabilitiesOf, innerOptions, textOf } from './options.ts';
import type {
  Conversion,
  ConvertOptions,
  ImageResolver,
  LintOptions,
  LintResult,
  LintWarning,
  Outline,
} from './types.ts';

/**
 * Converts a Dockerfile to the graph that a BuildKit daemon builds, and the image config of its target. Nothing is
 * built or fetched; what must be known about base images is asked of `options.resolveImage`. The same input gives the
 * same bytes when `options.uniqueId` is set.
 * @param file as text or as the bytes of a file, which need not be UTF-8
 * @throws {DockerfileError}
 */
export async function convert(file: string | Uint8Array, options: ConvertOptions = {}): Promise<Conversion> {
  const warnings: LintWarning[] = [];
  const warn = (warning: LintWarning): void => {
    warnings.push(warning);
    options.onWarning?.(warning);
  };
  try {
    const text = textOf(file);
    const result = await convertDockerfile(text, innerOptions(file, options, warn));
    return {
      definition: definitionOf(result, options, mayHoldBytes(text)),
      imageConfig: encodeImage(result.image),
      baseImageConfig: result.baseImage && encodeImage(result.baseImage),
      platform: formatPlatformFull(result.platform),
      epoch: result.epoch,
      warnings,
      outline: outlineOf(result),
    };
  } catch (error) {
    throw publicError(error, options.signal);
  }
}

/**
 * Checks a Dockerfile against all rules. Without `options.target` all stages are checked, else those that the target
 * needs. Without `options.resolveImage` base images count as empty ones, and rules about them are not checked.
 */
export async function lint(file: string | Uint8Array, options: LintOptions = {}): Promise<LintResult> {
  const warnings: LintWarning[] = [];
  const warn = (warning: LintWarning): void => {
    warnings.push(warning);
    options.onWarning?.(warning);
  };
  try {
    const inner = innerOptions(file, { resolveImage: emptyImages, ...options }, warn);
    await convertDockerfile(textOf(file), { ...inner, allStages: inner.target === '' });
    return { warnings, error: undefined };
  } catch (error) {
    if (options.signal?.aborted || !(error instanceof BuildError)) throw publicError(error, options.signal);
    return { warnings, error: { message: error.message, locations: locationsOf(error) } };
  }
}

/** An image of the platform asked for, with one layer so that it is not taken for an empty tree. */
const emptyImages: ImageResolver = (_, { platform }) => {
  const { os, architecture, variant } = normalizePlatform(parsePlatform(platform));
  const layer = `sha256:${'0'.repeat(64)}`;
  return { config: { os, architecture, variant, rootfs: { type: 'layers', diff_ids: [layer] } } };
};

function definitionOf(
  { state, platform }: ConvertResult,
  options: ConvertOptions,
  checkText: boolean,
): Uint8Array {
  const definition = marshal(state, {
    platform: platform ?? hostPlatform(),
    caps: capabilitiesOf(options),
    checkText,
    ...(options.uniqueId === undefined ? {} : { localUniqueId: options.uniqueId }),
  });
  return encodeDefinition(options.sourceMap === false ? { ...definition, Source: undefined } : definition);
}

function outlineOf(result: ConvertResult): Outline {
  const { name, description, args, secrets, ssh } = result.outline();
  return { name, description, secrets, ssh, args: args.map(({ deps: _, ...arg }) => arg) };
}
