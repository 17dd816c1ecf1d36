import { realpathSync } from 'node:fs';
import { BuildError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { formatPlatform, normalizePlatform, type Platform } from '../oci/platform.ts';
import { PlatformMatcher } from '../oci/platform-match.ts';
import { findExecutable } from '../sys/spawn.ts';
import type { ContainerMount } from './types.ts';

/** Where a step of another architecture finds its emulator. */
export const EMULATOR_PATH = '/dev/.buildkit_qemu_emulator';

/** Names in emulators' file names, where they differ from the platform's. */
const ARCHITECTURES: Readonly<Record<string, string>> = { arm64: 'aarch64', amd64: 'x86_64', 386: 'i386' };
/** An emulator has at least what these ask for. */
const EMULATED_AMD64 = ['', 'v2'];

export interface EmulatorOptions {
  /** What the machine runs without help. */
  readonly supported: readonly Platform[];
  /** Colon-separated. */
  readonly searchPath: string;
  readonly log: Logger;
}

/**
 * Path of the program that must run the steps of `platform` (FEATURES G22); undefined when the machine runs
 * them itself, or when there is none: then the step is tried, and says what it lacks.
 * @throws BuildError for a processor level that no emulator has
 */
export function findEmulator(platform: Platform, options: EmulatorOptions): string | undefined {
  const wanted = normalizePlatform(platform);
  if (runsWith(wanted, options.supported)) return undefined;
  if (wanted.architecture === 'amd64' && !EMULATED_AMD64.includes(wanted.variant ?? '')) {
    const own = options.supported.filter(({ architecture }) => architecture === 'amd64').map(formatPlatform);
    throw new BuildError(
      `no support for running processes with ${formatPlatform(wanted)} platform, supported: ${own.join(', ')}`,
    );
  }
  const name = `buildkit-qemu-${ARCHITECTURES[wanted.architecture] ?? wanted.architecture}`;
  const path = findExecutable(name, options.searchPath);
  if (!path) options.log.warn(`exec: ${JSON.stringify(name)}: executable file not found in $PATH`);
  return path;
}

/** Whether a machine that runs programs of `supported` runs those of `platform`. */
export function runsWith(platform: Platform, supported: readonly Platform[]): boolean {
  return supported.some((own) => new PlatformMatcher(own).matches(platform));
}

/** The emulator as the step sees it. */
export function emulatorMount(path: string): ContainerMount {
  const source = realpathSync(path);
  return {
    dest: EMULATOR_PATH,
    readonly: true,
    selector: '',
    source: {
      mount: async () => ({
        mounts: [{ type: 'bind', source, options: ['ro', 'bind'] }],
        release: async () => {},
      }),
    },
  };
}
