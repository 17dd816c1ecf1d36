import type { Platform } from '../oci/platform.ts';
import type { Platform as PbPlatform } from '../llb/ops.ts';

export function platformFromWire(wire: PbPlatform): Platform {
  return {
    architecture: wire.Architecture,
    os: wire.OS,
    ...(wire.Variant ? { variant: wire.Variant } : {}),
    ...(wire.OSVersion ? { osVersion: wire.OSVersion } : {}),
    ...(wire.OSFeatures.length > 0 ? { osFeatures: wire.OSFeatures } : {}),
  };
}

export function platformToWire(platform: Platform): PbPlatform {
  return {
    Architecture: platform.architecture,
    OS: platform.os,
    Variant: platform.variant ?? '',
    OSVersion: platform.osVersion ?? '',
    OSFeatures: [...(platform.osFeatures ?? [])],
  };
}
