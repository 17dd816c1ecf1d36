import { parseDuration } from '../../base/duration.ts';
import { BuildError } from '../../base/errors.ts';
import { parseBool } from '../../base/flags.ts';

const DEFAULT_TOUCH_REFRESH_MS = 24 * 3_600_000;
const DEFAULT_PARALLELISM = 4;
/** More parts at once would only fill the memory: each holds 8 MiB or more. */
const MAX_PARALLELISM = 64;
const DEFAULT_ATTEMPTS = 3;
const MAX_ATTEMPTS = 100;

/** Where a cache is in S3 and how it is reached (FEATURES K17). */
export interface S3Config {
  readonly bucket: string;
  readonly region: string;
  readonly prefix: string;
  readonly blobsPrefix: string;
  readonly manifestsPrefix: string;
  readonly names: readonly string[];
  /** Layers that have not changed for so long are made to look new. */
  readonly touchRefreshMs: number;
  /** '' for AWS itself. */
  readonly endpointUrl: string;
  readonly usePathStyle: boolean;
  /** All '' when the daemon is to find its own. */
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly uploadParallelism: number;
  readonly disableAcceptEncoding: boolean;
  readonly adaptive: boolean;
  readonly maxAttempts: number;
}

type Values = Readonly<Record<string, string | undefined>>;

/** @throws BuildError, in upstream's words where it has some */
export function parseS3Attrs(attrs: Values, env: Values): S3Config {
  const required = (key: string, variable: string): string => {
    const value = attrs[key] ?? env[variable];
    if (value === undefined) throw new BuildError(`${key} ($${variable}) not set for s3 cache`);
    return value;
  };
  return {
    bucket: required('bucket', 'AWS_BUCKET'),
    region: required('region', 'AWS_REGION'),
    prefix: attrs.prefix ?? '',
    blobsPrefix: attrs.blobs_prefix ?? 'blobs/',
    manifestsPrefix: attrs.manifests_prefix ?? 'manifests/',
    names: (attrs.name ?? 'buildkit').split(';'),
    touchRefreshMs: duration(attrs.touch_refresh) ?? DEFAULT_TOUCH_REFRESH_MS,
    endpointUrl: attrs.endpoint_url || env.AWS_ENDPOINT_URL_S3 || env.AWS_ENDPOINT_URL || '',
    usePathStyle: parseBool(attrs.use_path_style ?? '') ?? false,
    accessKeyId: attrs.access_key_id ?? '',
    secretAccessKey: attrs.secret_access_key ?? '',
    sessionToken: attrs.session_token ?? '',
    uploadParallelism: Math.min(
      positive(attrs, 'upload_parallelism') ?? DEFAULT_PARALLELISM,
      MAX_PARALLELISM,
    ),
    disableAcceptEncoding: parseBool(attrs.disable_accept_encoding ?? '') ?? false,
    adaptive: retryMode(attrs.retry_mode) ?? env.AWS_RETRY_MODE === 'adaptive',
    maxAttempts: Math.min(
      positive(attrs, 'retry_max_attempts') ?? (Number(env.AWS_MAX_ATTEMPTS) || DEFAULT_ATTEMPTS),
      MAX_ATTEMPTS,
    ),
  };
}

/** What makes no sense counts as not given, as upstream has it. */
function duration(text: string | undefined): number | undefined {
  const ns = text === undefined ? undefined : parseDuration(text);
  return ns === undefined ? undefined : Number(ns / 1_000_000n);
}

function positive(attrs: Values, key: string): number | undefined {
  const text = attrs[key];
  if (text === undefined) return undefined;
  const value = /^\+?\d+$/.test(text) ? Number(text) : 0;
  if (!Number.isSafeInteger(value) || value < 1) throw new BuildError(`${key} must be a positive integer`);
  return value;
}

/** Whether it is the adaptive one; undefined when nothing is said. */
function retryMode(text: string | undefined): boolean | undefined {
  if (text !== undefined && text !== 'standard' && text !== 'adaptive')
    throw new BuildError('retry_mode must be "standard" or "adaptive"');
  return text === undefined ? undefined : text === 'adaptive';
}
