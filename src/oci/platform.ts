import { goQuote } from '../base/go-quote.ts';
import { BuildError } from '../base/errors.ts';
import type { Platform } from './platform-type.ts';

export type { Platform } from './platform-type.ts';

/** The JSON form, keys in the order of the Go struct. */
export interface PlatformJson {
  architecture: string;
  os: string;
  'os.version'?: string;
  'os.features'?: readonly string[];
  variant?: string;
}

const OS_FORM = /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$/;
const PART_FORM = /^[A-Za-z0-9_.-]+$/;
/** System, architecture, variant; more of them are one part, which is refused. */
const MAX_PARTS = 3;
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
};

/** Platform of the machine this runs on, normalized. */
export function hostPlatform(): Platform {
  return normalizePlatform({ os: 'linux', architecture: HOST_ARCHITECTURES[process.arch] ?? process.arch });
}

/** Micro-architecture levels by the flags of /proc/cpuinfo each needs beside those of the level below. */
const AMD64_LEVELS: readonly (readonly [string, string])[] = [
  ['v2', 'cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3'],
  ['v3', 'avx avx2 bmi1 bmi2 f16c fma abm movbe xsave'],
  ['v4', 'avx512f avx512bw avx512cd avx512dq avx512vl'],
];

/** The amd64 variants above the base that a CPU with these /proc/cpuinfo flags runs: [], ['v2'], ['v2', 'v3'], … */
export function amd64Variants(cpuFlags: string): string[] {
  const flags = new Set(cpuFlags.split(/\s+/));
  const missing = AMD64_LEVELS.findIndex(([, needed]) => !needed.split(' ').every((f) => flags.has(f)));
  return AMD64_LEVELS.slice(0, missing < 0 ? undefined : missing).map(([variant]) => variant);
}

/** `os[(version+feature)][/arch[/variant]]` or a bare architecture. @throws {BuildError} */
export function parsePlatform(specifier: string): Platform {
  const invalid = (problem: string) => new BuildError(`${problem}: invalid argument`);
  const quoted = goQuote(specifier);
  if (specifier.includes('*')) throw invalid(`${quoted}: wildcards not yet supported`);
  const all = specifier.split('/');
  const parts = [
    ...all.slice(0, MAX_PARTS),
    ...(all.length > MAX_PARTS ? [all.slice(MAX_PARTS).join('/')] : []),
  ];
  const [first = '', second, third] = parts;
  const match = OS_FORM.exec(first);
  if (!match)
    throw invalid(
      `${goQuote(first)} is an invalid OS component of ${quoted}: OSAndVersion specifier component must match ${goQuote(OS_FORM.source)}`,
    );
  const bad = parts.slice(1).find((part) => !PART_FORM.test(part));
  if (bad !== undefined)
    throw invalid(
      `${goQuote(bad)} is an invalid component of ${quoted}: platform specifier component must match ${goQuote(PART_FORM.source)}`,
    );
  const os = systemParts(match, specifier);
  if (second === undefined) return bare(specifier, first, os);
  if (parts.length > MAX_PARTS) throw invalid(`${quoted}: cannot parse platform specifier`);
  const normal = normalizeArchitecture(second, third ?? '');
  if (third === undefined && normal.architecture === 'arm' && normal.variant === 'v7')
    return { ...os, architecture: 'arm' };
  if (third !== undefined && normal.architecture === 'arm64' && normal.variant === undefined)
    return { ...os, architecture: 'arm64', variant: 'v8' };
  return { ...os, ...normal };
}

type SystemParts = Pick<Platform, 'os' | 'osVersion' | 'osFeatures'>;

function systemParts(match: RegExpExecArray, specifier: string): SystemParts {
  const [, system = '', written = '', plus = ''] = match;
  const named = (problem: string): string => `${goQuote(specifier)} has ${problem}`;
  const version = decodeOption(written, () => named(`an invalid OS version ${goQuote(written)}`));
  const features = plus
    .split('+')
    .slice(1)
    .map((f) => decodeOption(f, () => named(`invalid OS features: invalid os feature ${goQuote(f)}`)));
  return {
    os: normalizeSystem(system),
    ...(version === '' ? {} : { osVersion: version }),
    ...(features.length === 0 ? {} : { osFeatures: features }),
  };
}

function decodeOption(text: string, problem: () => string): string {
  const bad = /%(?![0-9a-fA-F]{2}).{0,2}/.exec(text);
  if (bad) throw new BuildError(`${problem()}: invalid URL escape ${goQuote(bad[0])}`);
  const bytes = text.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString();
}

function bare(specifier: string, part: string, os: SystemParts): Platform {
  if (SYSTEMS.has(os.os)) return { ...os, architecture: hostPlatform().architecture };
  const normal = normalizeArchitecture(part, '');
  if (!ARCHITECTURES.has(normal.architecture))
    throw new BuildError(`${goQuote(specifier)}: unknown operating system or architecture: invalid argument`);
  const implied = normal.architecture === 'arm' && normal.variant === 'v7';
  return { os: 'linux', ...(implied ? { architecture: 'arm' } : normal) };
}

function normalizeSystem(os: string): string {
  const lower = os.toLowerCase();
  if (lower === '') return 'linux';
  return lower === 'macos' ? 'darwin' : lower;
}

function normalizeArchitecture(name: string, variantName: string) {
  const architecture = name.toLowerCase();
  const variant = variantName.toLowerCase();
  const make = (arch: string, v: string): { architecture: string; variant?: string } =>
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

/** Canonical names; `arm` gets its default variant, `arm64/v8` and `amd64/v1` lose theirs (FEATURES D20). */
export function normalizePlatform(platform: Platform): Platform {
  const features = platform.osFeatures?.length ? [...new Set(platform.osFeatures)].sort() : undefined;
  return {
    os: normalizeSystem(platform.os),
    ...normalizeArchitecture(platform.architecture, platform.variant ?? ''),
    ...(platform.osVersion ? { osVersion: platform.osVersion } : {}),
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
  const inner = platform.osVersion ? encode(platform.osVersion) : '';
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

/** For manifests and configs; empty fields are left out. */
export function platformToJson(platform: Platform): PlatformJson {
  return {
    architecture: platform.architecture,
    os: platform.os,
    ...(platform.osVersion ? { 'os.version': platform.osVersion } : {}),
    ...(platform.osFeatures?.length ? { 'os.features': platform.osFeatures } : {}),
    ...(platform.variant ? { variant: platform.variant } : {}),
  };
}

/** Tolerant: what has the wrong type counts as absent. Not normalized. */
export function platformFromJson(value: unknown): Platform | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const fields = value as Record<string, unknown>;
  const text = (key: string): string => (typeof fields[key] === 'string' ? fields[key] : '');
  const features = Array.isArray(fields['os.features'])
    ? fields['os.features'].filter((f): f is string => typeof f === 'string')
    : [];
  return {
    architecture: text('architecture'),
    os: text('os'),
    ...(text('variant') ? { variant: text('variant') } : {}),
    ...(text('os.version') ? { osVersion: text('os.version') } : {}),
    ...(features.length ? { osFeatures: features } : {}),
  };
}
