import { readFileSync } from 'node:fs';

// Replaced by the bundler.
declare const __VERSION__: string | undefined;
declare const __REVISION__: string | undefined;

/** Name of the package in `--version`, worker records and Info (FEATURES A1). */
export const PACKAGE = 'buildkit-ts';
export const VERSION: string = typeof __VERSION__ === 'string' ? __VERSION__ : sourceVersion();
export const REVISION: string = typeof __REVISION__ === 'string' ? __REVISION__ : '';

export function versionLine(program: string): string {
  return [program, PACKAGE, VERSION, REVISION].join(' ').trimEnd();
}

/** Of a program that runs from its sources. */
function sourceVersion(): string {
  try {
    const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    return `v${(JSON.parse(text) as { version: string }).version}`;
  } catch {
    return 'v0.0.0'; // the sources were taken out of their package
  }
}
