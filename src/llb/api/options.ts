import { invalidArgument } from '../../base/errors.ts';
import { normalizePlatform, parsePlatform, type Platform as InnerPlatform } from '../../oci/platform.ts';
import type { Constraints } from '../node.ts';
import { Lazy } from './lazy.ts';
import { LAZY } from './lazy.ts';
import type { SourceLocation } from './source-map.ts';

/** A platform in parts; taken as it is. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly osVersion?: string;
  readonly osFeatures?: readonly string[];
}

/** A platform, in parts or as text `os/architecture[/variant]`, which is normalized: `linux/arm64`, `linux/arm/v6`. */
export type PlatformSpec = Platform | string;

/** Limits of the control group that a step runs in. They do not change its digest. */
export interface Resources {
  /** Bytes. */
  readonly memory?: number | bigint;
  /** Bytes of memory and swap together; -1 for as much as there is. */
  readonly memorySwap?: number | bigint;
  /** Weight beside other steps. */
  readonly cpuShares?: number | bigint;
  /** Microseconds. */
  readonly cpuPeriod?: number | bigint;
  /** Microseconds of processor time in a period. */
  readonly cpuQuota?: number | bigint;
  /** Processors, `0-2,7`. */
  readonly cpusetCpus?: string;
  /** Memory nodes, `0`. */
  readonly cpusetMems?: string;
}

/** What is said about a step beside what it does: metadata of its vertex, none of it part of its digest. */
export interface StepMetadata {
  /** OpMetadata `ignore_cache`: runs again although nothing has changed. */
  readonly ignoreCache?: boolean;
  /** Shown in progress instead of what the step does: description `llb.customname`. */
  readonly customName?: string;
  /** OpMetadata `description`, free keys. */
  readonly description?: Readonly<Record<string, string>>;
  /** OpMetadata `export_cache`: always (true) or never (false) part of an exported cache. */
  readonly exportCache?: boolean;
  /** OpMetadata `progress_group`: steps with one id are one line of progress; weak ones only inside another group. */
  readonly progressGroup?: { readonly id: string; readonly name: string; readonly weak?: boolean };
  /** OpMetadata `linux_resources`. */
  readonly resources?: Resources;
}

/** What may be said about any step. */
export interface StepOptions extends StepMetadata {
  /** Op `platform`: which image of several is taken, where a command runs. Other steps have none. */
  readonly platform?: PlatformSpec;
  /** Op `constraints.filter`: what a worker must be like, `worker.label."k"==v`. */
  readonly workerFilters?: readonly string[];
  /** Source `local.unique` of this local source, instead of the one of all. */
  readonly localUniqueId?: string;
  /** Lines of a file that the step comes from (`SourceMap.at`): Definition `Source`. */
  readonly locations?: readonly SourceLocation[];
}

/** @internal */
export function platformOf(spec: PlatformSpec): InnerPlatform {
  return typeof spec === 'string' ? normalizePlatform(parsePlatform(spec)) : spec;
}

/** @internal */
export function metadataOf(options: StepMetadata): Constraints {
  const { ignoreCache, customName, description, exportCache, progressGroup, resources } = options;
  return {
    ...(ignoreCache === undefined ? {} : { ignoreCache }),
    ...(customName === undefined ? {} : { customName }),
    ...(description === undefined ? {} : { description }),
    ...(exportCache === undefined ? {} : { exportCache }),
    ...(progressGroup ? { progressGroup: { weak: false, ...progressGroup } } : {}),
    ...(resources
      ? {
          linuxResources: {
            memory: int(resources.memory, 'memory'),
            memorySwap: int(resources.memorySwap, 'memorySwap'),
            cpuShares: int(resources.cpuShares, 'cpuShares'),
            cpuPeriod: int(resources.cpuPeriod, 'cpuPeriod'),
            cpuQuota: int(resources.cpuQuota, 'cpuQuota'),
            cpusetCpus: resources.cpusetCpus ?? '',
            cpusetMems: resources.cpusetMems ?? '',
          },
        }
      : {}),
  };
}

/** @internal */
export function constraintsOf(options: StepOptions): Lazy<Constraints> {
  const { platform, workerFilters, localUniqueId, locations = [] } = options;
  const plain: Constraints = {
    ...metadataOf(options),
    ...(platform === undefined ? {} : { platform: platformOf(platform) }),
    ...(workerFilters ? { workerConstraints: workerFilters } : {}),
    ...(localUniqueId ? { localUniqueId } : {}),
  };
  if (locations.length === 0) return Lazy.of(plain);
  return Lazy.all(
    locations.map(({ map }) => map[LAZY]),
    (...maps) => ({
      ...plain,
      locations: locations.map(({ ranges }, i) => ({ map: maps[i]!, ranges })),
    }),
  );
}

/** A whole number of 64 bits. @internal */
export function int(value: number | bigint | undefined, name: string): bigint {
  if (value === undefined) return 0n;
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    throw invalidArgument(`${name} must be a whole number: ${value}`);
  return BigInt(value);
}
