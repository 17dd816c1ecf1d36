import type * as pbWorker from '../pb/worker.ts';
import type { BuildkitVersion, WorkerInfo } from './worker-types.ts';

export function versionFromWire(version: pbWorker.BuildkitVersion | undefined): BuildkitVersion {
  return version ?? { package: '', version: '', revision: '', dockerfileVersion: '' };
}

export function workerFromWire(worker: pbWorker.WorkerRecord): WorkerInfo {
  return {
    id: worker.ID,
    labels: worker.Labels,
    platforms: worker.platforms.map((p) => ({
      architecture: p.Architecture,
      os: p.OS,
      variant: p.Variant,
      osVersion: p.OSVersion,
      osFeatures: p.OSFeatures,
    })),
    gcPolicy: worker.GCPolicy.map((rule) => ({
      all: rule.all,
      filters: rule.filters,
      keepDuration: rule.keepDuration,
      reservedSpace: Number(rule.reservedSpace),
      maxUsedSpace: Number(rule.maxUsedSpace),
      minFreeSpace: Number(rule.minFreeSpace),
    })),
    buildkitVersion: versionFromWire(worker.BuildkitVersion),
    cdiDevices: worker.CDIDevices.map((device) => ({
      name: device.Name,
      autoAllow: device.AutoAllow,
      annotations: device.Annotations,
      onDemand: device.OnDemand,
    })),
  };
}
