import type { Platform } from '../oci/platform.ts';
import { compareText } from './gopath.ts';
import type { Platform as PlatformMessage } from './ops.ts';

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  mipsel: 'mipsle',
};

/** Platform of this process. ARM variants below v8 are not told apart: v7 is taken. */
export function hostPlatform(): Platform {
  const architecture = ARCHITECTURES[process.arch] ?? process.arch;
  return normalizePlatform({ architecture, os: process.platform === 'win32' ? 'windows' : process.platform });
}

/** One spelling for each platform (FEATURES D20). An empty operating system becomes linux. */
export function normalizePlatform(platform: Platform): Platform {
  const [architecture, variant] = normalizeArchitecture(
    platform.architecture.toLowerCase(),
    (platform.variant ?? '').toLowerCase(),
  );
  const os = platform.os === '' ? 'linux' : platform.os.toLowerCase();
  const features = [...new Set(platform.osFeatures ?? [])].sort(compareText);
  return {
    architecture,
    os: os === 'macos' ? 'darwin' : os,
    ...(variant === '' ? {} : { variant }),
    ...(platform.osVersion ? { osVersion: platform.osVersion } : {}),
    ...(features.length > 0 ? { osFeatures: features } : {}),
  };
}

function normalizeArchitecture(architecture: string, variant: string): [string, string] {
  switch (architecture) {
    case 'i386':
      return ['386', ''];
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return ['amd64', variant === 'v1' ? '' : variant];
    case 'aarch64':
    case 'arm64':
      if (['8', 'v8', 'v8.0'].includes(variant)) return ['arm64', ''];
      return ['arm64', ['9', '9.0', 'v9.0'].includes(variant) ? 'v9' : variant];
    case 'armhf':
      return ['arm', 'v7'];
    case 'armel':
      return ['arm', 'v6'];
    case 'arm':
      if (variant === '' || variant === '7') return ['arm', 'v7'];
      return ['arm', ['5', '6', '8'].includes(variant) ? `v${variant}` : variant];
    default:
      return [architecture, variant];
  }
}

export function platformToMessage(platform: Platform): PlatformMessage {
  return {
    Architecture: platform.architecture,
    OS: platform.os,
    Variant: platform.variant ?? '',
    OSVersion: platform.osVersion ?? '',
    OSFeatures: [...(platform.osFeatures ?? [])],
  };
}

export function platformFromMessage(message: PlatformMessage): Platform {
  return {
    architecture: message.Architecture,
    os: message.OS,
    ...(message.Variant === '' ? {} : { variant: message.Variant }),
    ...(message.OSVersion === '' ? {} : { osVersion: message.OSVersion }),
    ...(message.OSFeatures.length === 0 ? {} : { osFeatures: message.OSFeatures }),
  };
}
