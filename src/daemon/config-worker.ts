import { existsSync } from 'node:fs';
import { invalidArgument } from '../base/errors.ts';
import { type FlagValues, parseBool } from '../base/flags.ts';
import type { DefaultPaths, Env } from './config-env.ts';
import { type FileConfig, NETWORK_MODES } from './config-file.ts';
import type { DiskSpace } from './config-values.ts';
import type { GcConfig } from './gc-policy.ts';

type FileOci = NonNullable<NonNullable<FileConfig['worker']>['oci']>;
export type NetworkMode = (typeof NETWORK_MODES)[number];

/** The OCI worker (FEATURES A22, A30). */
export interface OciWorkerConfig {
  /** undefined = when a runtime is found. */
  readonly enabled: boolean | undefined;
  readonly labels: Readonly<Record<string, string>>;
  /** Texts such as `linux/arm64`; empty = what the machine can run. */
  readonly platforms: readonly string[];
  /** `auto`, or the name of one. */
  readonly snapshotter: string;
  readonly rootless: boolean;
  /** Name or path of the runtime; empty = look for one. */
  readonly binary: string;
  readonly defaultCgroupParent: string;
  /** Steps that run at once; 0 = no limit. */
  readonly maxParallelism: number;
  readonly network: NetworkConfig;
  readonly gc: GcConfig;
  /** What the state directory may take of its disk, also while builds run; a share is one of the disk. */
  readonly hardLimit: DiskSpace | undefined;
}

export interface NetworkConfig {
  /** Never `auto`: what that comes to has been looked up (FEATURES A37). */
  readonly mode: Exclude<NetworkMode, 'auto'>;
  /** False when the mode was found by `auto`. */
  readonly chosen: boolean;
  readonly cniConfigPath: string;
  readonly cniBinaryPath: string;
  readonly bridgeName: string;
  readonly bridgeSubnet: string;
}

const BRIDGE_NAME = 'buildkit0';
const BRIDGE_SUBNET = '10.10.0.0/16';

export function ociWorker(flags: FlagValues, file: FileOci, paths: DefaultPaths, env: Env): OciWorkerConfig {
  const text = (flag: string, value: string | undefined, fallback: string): string =>
    flags.isSet(flag) ? flags.string(flag) : value || fallback;
  const rootless =
    flags.isSet('oci-worker-rootless') || !flags.isSet('rootless')
      ? flags.bool('oci-worker-rootless') || (file.rootless ?? false)
      : flags.bool('rootless');
  const platforms = flags.strings('oci-worker-platform');
  const parallelism = flags.isSet('oci-max-parallelism')
    ? flags.number('oci-max-parallelism')
    : (file['max-parallelism'] ?? 0);
  return {
    enabled: flags.isSet('oci-worker') ? boolOrAuto('oci-worker', flags.string('oci-worker')) : file.enabled,
    labels: { ...file.labels, ...labelsOf(flags.strings('oci-worker-labels')) },
    platforms: platforms.length > 0 ? platforms : (file.platforms ?? []),
    snapshotter: text('oci-worker-snapshotter', file.snapshotter, 'auto'),
    rootless,
    binary: text('oci-worker-binary', file.binary, ''),
    defaultCgroupParent: file.defaultCgroupParent ?? '',
    maxParallelism: Math.max(0, parallelism),
    network: network(flags, file, paths, env, rootless),
    gc: gcConfig(flags, file),
    hardLimit: hardLimit(file),
  };
}

function network(
  flags: FlagValues,
  file: FileOci,
  paths: DefaultPaths,
  env: Env,
  rootless: boolean,
): NetworkConfig {
  const asked = flags.isSet('oci-worker-net') ? flags.string('oci-worker-net') : (file.networkMode ?? 'auto');
  if (!(NETWORK_MODES as readonly string[]).includes(asked))
    throw invalidArgument(`invalid network mode: ${JSON.stringify(asked)}`);
  const cniConfigPath = flags.isSet('oci-cni-config-path')
    ? flags.string('oci-cni-config-path')
    : file.cniConfigPath || paths.cniConfig;
  const found = (): Exclude<NetworkMode, 'auto'> => {
    if (rootless) return 'host';
    if (parseBool(env.BUILDKIT_NETWORK_BRIDGE_AUTO ?? '') === true) return 'bridge';
    return existsSync(cniConfigPath) ? 'cni' : 'host';
  };
  return {
    mode: asked === 'auto' ? found() : (asked as Exclude<NetworkMode, 'auto'>),
    chosen: asked !== 'auto',
    cniConfigPath,
    cniBinaryPath: flags.isSet('oci-cni-binary-dir')
      ? flags.string('oci-cni-binary-dir')
      : file.cniBinaryPath || paths.cniBinaries,
    bridgeName: file.bridgeName || BRIDGE_NAME,
    bridgeSubnet: file.bridgeSubnet || BRIDGE_SUBNET,
  };
}

function gcConfig(flags: FlagValues, file: FileOci): GcConfig {
  const flagged = flags.isSet('oci-worker-gc-keepstorage')
    ? keepStorage(flags.string('oci-worker-gc-keepstorage'))
    : undefined;
  const limits = flagged ?? {
    reservedSpace: file.reservedSpace,
    maxUsedSpace: file.maxUsedSpace,
    minFreeSpace: file.minFreeSpace,
  };
  const unset = Object.values(limits).every((space) => space === undefined);
  return {
    enabled: flags.isSet('oci-worker-gc') ? flags.bool('oci-worker-gc') : (file.gc ?? true),
    ...(unset ? { ...limits, reservedSpace: file.gckeepstorage } : limits),
    policies: file.gcpolicy ?? [],
  };
}

function hardLimit({ hardLimit: space }: FileOci): DiskSpace | undefined {
  if (space === undefined) return undefined;
  const value = 'bytes' in space ? space.bytes : space.percent;
  if (value < 0 || ('percent' in space && value > 100))
    throw invalidArgument(
      'invalid configuration: worker.oci.hardLimit: expected bytes, or 1% to 100% of the disk',
    );
  return value === 0 ? undefined : space;
}

/** `Reserved[,Free[,Maximum]]` in MB. */
function keepStorage(text: string) {
  const parts = text === '' ? [] : text.split(',');
  const [reservedSpace, minFreeSpace, maxUsedSpace] = parts.map((part): DiskSpace => {
    if (!/^[+-]?\d+$/.test(part) || parts.length > 3)
      throw invalidArgument(`failed to parse storage ${JSON.stringify(text)}`);
    return { bytes: Number(part) * 1e6 };
  });
  return { reservedSpace, maxUsedSpace, minFreeSpace };
}

function labelsOf(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const at = entry.indexOf('=');
      if (at < 0) throw invalidArgument(`invalid value ${entry}`);
      return [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

function boolOrAuto(flag: string, text: string): boolean | undefined {
  if (text === '' || text.toLowerCase() === 'auto') return undefined;
  const value = parseBool(text);
  if (value === undefined)
    throw invalidArgument(`invalid value ${JSON.stringify(text)} for flag -${flag}: true, false or auto`);
  return value;
}
