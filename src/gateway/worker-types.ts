/** Version of a daemon. */
export interface BuildkitVersion {
  readonly package: string;
  readonly version: string;
  readonly revision: string;
  /** Of the Dockerfile frontend in it, '' when it does not say. */
  readonly dockerfileVersion: string;
}

/** A platform that a worker runs; '' for what is not said. */
export interface WorkerPlatform {
  readonly architecture: string;
  readonly os: string;
  readonly variant: string;
  readonly osVersion: string;
  readonly osFeatures: readonly string[];
}

/** A part of the daemon that runs steps. */
export interface WorkerInfo {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly platforms: readonly WorkerPlatform[];
  readonly gcPolicy: readonly GcPolicy[];
  readonly buildkitVersion: BuildkitVersion;
  readonly cdiDevices: readonly CdiDevice[];
}

/** A rule of garbage collection. Spaces in bytes, duration in nanoseconds. */
export interface GcPolicy {
  readonly all: boolean;
  readonly filters: readonly string[];
  readonly keepDuration: bigint;
  readonly reservedSpace: number;
  readonly maxUsedSpace: number;
  readonly minFreeSpace: number;
}

/** A device that steps may ask for. */
export interface CdiDevice {
  readonly name: string;
  readonly autoAllow: boolean;
  readonly annotations: Readonly<Record<string, string>>;
  readonly onDemand: boolean;
}
