import { BuildError } from '../../base/errors.ts';
import { cleanPath, joinPath } from '../../llb/gopath.ts';
import { quote } from '../text.ts';

/** Slashes as separators; on Windows images backslashes count too. */
export function toSlash(path: string, os: string): string {
  return os === 'windows' ? path.replaceAll('\\', '/') : path;
}

export function isAbsolute(path: string, os: string): boolean {
  try {
    return toSlash(withoutDrive(path, os, false), os).startsWith('/');
  } catch {
    return false; // a path on another drive
  }
}

/**
 * `path` below `parent`, absolute, with slashes and without a drive letter. With `keepSlash` a
 * trailing `/` or `/.` stays, since it decides what a copy means.
 */
export function normalizePath(parent: string, path: string, os: string, keepSlash: boolean): string {
  const written = toSlash(path, os);
  let base = relativeToDrive(toSlash(parent, os) || '/', os, keepSlash);
  if (!isAbsolute(base, os)) base = joinPath('/', base);
  let result = relativeToDrive(written === '' ? base : written, os, keepSlash);
  if (!isAbsolute(result, os)) result = joinPath(base, result);
  if (!keepSlash) return toSlash(result, os);
  if (written.endsWith('/') && !result.endsWith('/')) result += '/';
  else if (written.endsWith('/.')) result = `${result === '/' ? result : `${result}/`}.`;
  return toSlash(result, os);
}

/** The directory a WORKDIR leads to, with the separators of the image's system. */
export function normalizeWorkdir(current: string, path: string, os: string): string {
  try {
    const result = normalizePath(current, path, os, false);
    return os === 'windows' ? result.replaceAll('/', '\\') : result;
  } catch (error) {
    throw BuildError.wrap(error, 'normalizing workdir: normalizing working directory');
  }
}

/** As `withoutDrive`; errors say what was tried. */
export function relativeToDrive(path: string, os: string, keepSlash: boolean): string {
  try {
    return withoutDrive(path, os, keepSlash);
  } catch (error) {
    throw BuildError.wrap(error, 'removing drive letter');
  }
}

/** On Windows only the system drive exists. */
function withoutDrive(path: string, os: string, keepSlash: boolean): string {
  if (os !== 'windows') return path;
  if (path.length === 2 && path[1] === ':')
    throw new BuildError(`No relative path specified in ${quote(path)}`);
  if (toSlash(path.slice(0, 2), os) === '//') throw new BuildError('UNC paths are not supported');
  const colon = path.indexOf(':');
  if (colon >= 0 && path.slice(0, colon).toLowerCase() !== 'c')
    throw new BuildError('The specified path is not on the system drive (C:)');
  const rest = toSlash(path.slice(colon + 1), os);
  const clean = cleanPath(rest);
  return keepSlash && clean.length > 1 && rest.endsWith('/') ? `${clean}/` : clean;
}
