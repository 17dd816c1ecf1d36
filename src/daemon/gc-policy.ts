import type { PruneOptions } from '../cache/ref.ts';
import type { FileGcPolicy } from './config-file.ts';
import { type DiskSpace, diskBytes } from './config-values.ts';

/** The garbage collection part of a worker's configuration. */
export interface GcConfig {
  readonly enabled: boolean;
  readonly reservedSpace: DiskSpace | undefined;
  readonly maxUsedSpace: DiskSpace | undefined;
  readonly minFreeSpace: DiskSpace | undefined;
  readonly policies: readonly FileGcPolicy[];
}

const HOUR_MS = 3_600_000;
const RESERVED_SHARE = { percent: 10 };
const RESERVED_BYTES = 10e9;
const MAX_SHARE = { percent: 80 };
const MAX_BYTES = 100e9;
const FREE_SHARE = { percent: 20 };
/** What is easily made again, after two days without use, once it takes more than this. */
const REPRODUCIBLE_BYTES = 512e6;
const REPRODUCIBLE = ['type==source.local', 'type==exec.cachemount', 'type==source.git.checkout'];

/**
 * The prune rules of a worker in their order (FEATURES A24, A39).
 * @param totalBytes size of the disk that holds the root directory; 0 when unknown.
 */
export function gcPolicies(config: GcConfig, totalBytes: number): PruneOptions[] {
  if (!config.enabled) return [];
  if (config.policies.length === 0) return defaultPolicies(config, totalBytes);
  return config.policies.map((rule) => ({
    filters: rule.filters ?? [],
    all: rule.all ?? false,
    keepDurationMs: rule.keepDuration ?? 0,
    reservedSpace: diskBytes(isUnset(rule.reservedSpace) ? rule.keepBytes : rule.reservedSpace, totalBytes),
    maxUsedSpace: diskBytes(rule.maxUsedSpace, totalBytes),
    minFreeSpace: diskBytes(rule.minFreeSpace, totalBytes),
  }));
}

function defaultPolicies(config: GcConfig, totalBytes: number): PruneOptions[] {
  const limits = limitsOf(config, totalBytes);
  return [
    {
      filters: REPRODUCIBLE,
      all: false,
      keepDurationMs: 48 * HOUR_MS,
      reservedSpace: 0,
      maxUsedSpace: REPRODUCIBLE_BYTES,
      minFreeSpace: 0,
    },
    { filters: [], all: false, keepDurationMs: 60 * 24 * HOUR_MS, ...limits },
    { filters: [], all: false, keepDurationMs: 0, ...limits },
    { filters: [], all: true, keepDurationMs: 0, ...limits },
  ];
}

function limitsOf(config: GcConfig, totalBytes: number) {
  const { reservedSpace, maxUsedSpace, minFreeSpace } = config;
  const bytes = (space: DiskSpace | undefined): number => diskBytes(space, totalBytes);
  if ([reservedSpace, maxUsedSpace, minFreeSpace].every(isUnset))
    return {
      reservedSpace: Math.min(bytes(RESERVED_SHARE), RESERVED_BYTES),
      maxUsedSpace: Math.min(bytes(MAX_SHARE), MAX_BYTES),
      minFreeSpace: bytes(FREE_SHARE),
    };
  return {
    reservedSpace: bytes(reservedSpace),
    maxUsedSpace: bytes(maxUsedSpace),
    minFreeSpace: bytes(minFreeSpace),
  };
}

function isUnset(space: DiskSpace | undefined): boolean {
  return space === undefined || ('bytes' in space ? space.bytes : space.percent) === 0;
}
