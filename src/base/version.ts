// Replaced by the bundler.
declare const __VERSION__: string | undefined;
declare const __REVISION__: string | undefined;

/** Name of the package in `--version`, worker records and Info (FEATURES A1). */
export const PACKAGE = 'buildkit-ts';
export const VERSION: string = typeof __VERSION__ === 'string' ? __VERSION__ : 'v0.0.0-source';
export const REVISION: string = typeof __REVISION__ === 'string' ? __REVISION__ : '';

/** The Dockerfile syntax that the frontend inside understands. */
export const DOCKERFILE_VERSION = '1.26.0';

export function versionLine(program: string): string {
  return [program, PACKAGE, VERSION, REVISION].join(' ').trimEnd();
}
