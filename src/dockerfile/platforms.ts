import { BuildError, Code } from '../base/errors.ts';
import type { Platform } from '../oci/platform.ts';
import { quote } from './text.ts';

const OS_FORM = /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$/;
const PART_FORM = /^[A-Za-z0-9_.-]+$/;
const SYSTEMS = new Set(
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos'.split(
    ' ',
  ),
);
const ARCHITECTURES = new Set(
  (
    '386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32 ' +
    'mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm'
  ).split(' '),
);

/** Architecture names of Node that differ from the image world's. */
const HOST_ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  ppc64: 'ppc64le',
  loong64: 'loong64',
};

/** Platform of the machine this runs on. */
export function hostPlatform(): Platform {
  const architecture = HOST_ARCHITECTURES[process.arch] ?? process.arch;
  return { os: 'linux', architecture, ...(architecture === 'arm' ? { variant: 'v7' } : {}) };
}

/** `os[(version+feature)][/arch[/variant]]` or a bare architecture. */
export function parsePlatform(specifier: string): Platform {
  const invalid = (problem: string) =>
    new BuildError(`${problem}: invalid argument`, { code: Code.invalidArgument });
  if (specifier.includes('*')) throw invalid(`${quote(specifier)}: wildcards not yet supported`);
  const parts = specifier.split('/');
  const [first = '', second, third] = parts;
  const match = OS_FORM.exec(first);
  if (!match)
    throw invalid(
      `${quote(first)} is an invalid OS component of ${quote(specifier)}: OSAndVersion specifier component must match ${quote(OS_FORM.source)}`,
    );
  const bad = parts.slice(1).find((part) => !PART_FORM.test(part));
  if (bad !== undefined)
    throw invalid(
      `${quote(bad)} is an invalid component of ${quote(specifier)}: platform specifier component must match ${quote(PART_FORM.source)}`,
    );
  const os = systemParts(match);
  if (second === undefined) return bare(specifier, first, os, invalid);
  if (parts.length > 3) throw invalid(`${quote(specifier)}: cannot parse platform specifier`);
  const normal = normalizeArchitecture(second, third ?? '');
  if (third === undefined && normal.architecture === 'arm' && normal.variant === 'v7')
    return { ...os, architecture: 'arm' };
  if (third !== undefined && normal.architecture === 'arm64' && normal.variant === undefined)
    return { ...os, architecture: 'arm64', variant: 'v8' };
  return { ...os, ...normal };
}

type SystemParts = Pick<Platform, 'os' | 'osVersion' | 'osFeatures'>;

function systemParts(match: RegExpExecArray): SystemParts {
  const version = match[2] ? decodeURIComponent(match[2]) : undefined;
  const features = match[3] ? match[3].slice(1).split('+').map(decodeURIComponent) : undefined;
  return {
    os: normalizeSystem(match[1] ?? ''),
    ...(version === undefined ? {} : { osVersion: version }),
    ...(features === undefined ? {} : { osFeatures: features }),
  };
}

function bare(
  specifier: string,
  part: string,
  os: SystemParts,
  invalid: (problem: string) => BuildError,
): Platform {
  if (SYSTEMS.has(os.os)) return { ...os, architecture: hostPlatform().architecture };
  const normal = normalizeArchitecture(part, '');
  if (!ARCHITECTURES.has(normal.architecture))
    throw invalid(`${quote(specifier)}: unknown operating system or architecture`);
  const implied = normal.architecture === 'arm' && normal.variant === 'v7';
  return { os: 'linux', ...(implied ? { architecture: 'arm' } : normal) };
}

function normalizeSystem(os: string): string {
  const lower = os.toLowerCase();
  if (lower === '') return 'linux';
  return lower === 'macos' ? 'darwin' : lower;
}

function normalizeArchitecture(
  name: string,
  variantName: string,
): { architecture: string; variant?: string } {
  const architecture = name.toLowerCase();
  const variant = variantName.toLowerCase();
  const make = (arch: string, v: string) =>
    v === '' ? { architecture: arch } : { architecture: arch, variant: v };
  switch (architecture) {
    case 'i386':
      return make('386', '');
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return make('amd64', variant === 'v1' ? '' : variant);
    case 'aarch64':
    case 'arm64':
      if (['8', 'v8', 'v8.0'].includes(variant)) return make('arm64', '');
      return make('arm64', ['9', '9.0', 'v9.0'].includes(variant) ? 'v9' : variant);
    case 'armhf':
      return make('arm', 'v7');
    case 'armel':
      return make('arm', 'v6');
    case 'arm':
      if (variant === '' || variant === '7') return make('arm', 'v7');
      return make('arm', ['5', '6', '8'].includes(variant) ? `v${variant}` : variant);
    default:
      return make(architecture, variant);
  }
}

/** Canonical names; `arm` gets its default variant, `arm64/v8` and `amd64/v1` lose theirs. */
export function normalizePlatform(platform: Platform): Platform {
  const features = platform.osFeatures?.length ? [...new Set(platform.osFeatures)].sort() : undefined;
  return {
    os: normalizeSystem(platform.os),
    ...normalizeArchitecture(platform.architecture, platform.variant ?? ''),
    ...(platform.osVersion === undefined ? {} : { osVersion: platform.osVersion }),
    ...(features === undefined ? {} : { osFeatures: features }),
  };
}

/** `os/arch[/variant]` */
export function formatPlatform(platform: Platform): string {
  return join(platform, platform.os);
}

/** `os[(version+features)]/arch[/variant]` */
export function formatPlatformFull(platform: Platform): string {
  const features = [...new Set(platform.osFeatures ?? [])].filter((feature) => feature !== '').sort();
  const inner = (platform.osVersion ? [platform.osVersion] : []).map(encode).join('');
  const tail = features.map((feature) => `+${encode(feature)}`).join('');
  return join(platform, inner + tail === '' ? platform.os : `${platform.os}(${inner}${tail})`);
}

function join(platform: Platform, os: string): string {
  if (platform.os === '') return 'unknown';
  return [os, platform.architecture, platform.variant ?? ''].filter((part) => part !== '').join('/');
}

function encode(option: string): string {
  return option.replace(/[%+()/]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
