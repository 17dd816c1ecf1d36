import type { Resources } from '../../llb/api/options.ts';
import type { LinuxResources } from '../../llb/ops.ts';
import { hostPlatform } from '../../oci/platform.ts';
import type { FrontendOptions } from '../dockerfile-options.ts';
import type { DockerUiConfig } from './types.ts';

/** The client's options as frontends of other people see them. */
export function publicConfig(options: FrontendOptions): DockerUiConfig {
  const { sbom, shmSize, resources } = options;
  return {
    buildArgs: Object.fromEntries(options.buildArgs),
    labels: Object.fromEntries(options.labels),
    target: options.target,
    targetPlatforms: options.targetPlatforms,
    buildPlatform: options.buildPlatforms[0] ?? hostPlatform(),
    multiPlatform: options.multiPlatform,
    network: options.networkMode,
    hostname: options.hostname,
    extraHosts: options.extraHosts,
    shmSize: shmSize === 0n ? undefined : shmSize,
    ulimits: options.ulimits.map(({ name, soft, hard }) => ({ name, soft, hard })),
    cgroupParent: options.cgroupParent,
    resources: resources && publicResources(resources),
    imageResolveMode: options.imageResolveMode,
    cacheNamespace: options.cacheIdNamespace,
    cacheImports: options.cacheImports,
    sbom: sbom && { generator: sbom.generator, parameters: sbom.params },
  };
}

/** Without those that are zero, which says nothing. */
function publicResources(resources: LinuxResources): Resources {
  return Object.fromEntries(Object.entries(resources).filter(([, value]) => value !== 0n && value !== ''));
}
