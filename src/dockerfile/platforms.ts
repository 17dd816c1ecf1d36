import { BuildError } from '../base/errors.ts';
import { hostPlatform, normalizePlatform } from '../llb/platform.ts';
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

/** `os[(version+feature)][/arch[/variant]]` or a bare architecture. */
export function parsePlatform(specifier: string): Platform {
  const invalid = (problem: string) => new BuildError(`${problem}: invalid argument`);
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
  const normal = architectureOf(second, third ?? '');
  if (third === undefined && normal.architecture === 'arm' && normal.variant === 'v7')
    return { ...os, architecture: 'arm' };
  if (third !== undefined && normal.architecture === 'arm64' && normal.variant === undefined)
    return { ...os, architecture: 'arm64', variant: 'v8' };
  return { ...os, ...normal };
}

function architectureOf(architecture: string, variant: string): Pick<Platform, 'architecture' | 'variant'> {
  const normal = normalizePlatform({ os: 'linux', architecture, variant });
  return normal.variant === undefined
    ? { architecture: normal.architecture }
    : { architecture: normal.architecture, variant: normal.variant };
}

type SystemParts = Pick<Platform, 'os' | 'osVersion' | 'osFeatures'>;

function systemParts(match: RegExpExecArray): SystemParts {
  const version = match[2] ? decodeURIComponent(match[2]) : undefined;
  const features = match[3] ? match[3].slice(1).split('+').map(decodeURIComponent) : undefined;
  return {
    os: normalizePlatform({ os: match[1] ?? '', architecture: '' }).os,
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
  const normal = architectureOf(part, '');
  if (!ARCHITECTURES.has(normal.architecture))
    throw invalid(`${quote(specifier)}: unknown operating system or architecture`);
  const implied = normal.architecture === 'arm' && normal.variant === 'v7';
  return { os: 'linux', ...(implied ? { architecture: 'arm' } : normal) };
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
