/** Go's `path` functions for slash-separated paths; node:path differs in trailing slashes and empty names. */
import { posix } from 'node:path';

/** Shortest equal path: no doubled slashes, no `.`, inner `..` resolved, no trailing slash; `''` is `.`. */
export function cleanPath(path: string): string {
  const normal = posix.normalize(path);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

/** Joined with slashes, empty parts left out, and cleaned; `''` when every part is empty. */
export function joinPath(...parts: readonly string[]): string {
  const kept = parts.filter((part) => part !== '');
  return kept.length === 0 ? '' : cleanPath(kept.join('/'));
}

/** All but the last part, cleaned: `.` for a bare name, `/` for what lies in the root. */
export function dirPath(path: string): string {
  return cleanPath(path.slice(0, path.lastIndexOf('/') + 1));
}

/** The last part: `.` for an empty path, `/` for slashes only. */
export function basePath(path: string): string {
  if (path === '') return '.';
  let end = path.length;
  while (end > 0 && path.charCodeAt(end - 1) === 47) end--;
  return end === 0 ? '/' : path.slice(path.lastIndexOf('/', end - 1) + 1, end);
}

/** Order of the UTF-8 bytes. JavaScript's own order differs for characters beyond the basic plane. */
export function compareBytes(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return rank(x) - rank(y);
  }
  return a.length - b.length;
}

/** Surrogates stand for the highest code points. */
function rank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/** Sorts names in place in the order of their bytes, as directory listings go over the wire. */
export function sortNames(names: string[]): string[] {
  // The engine's own order is quick, and right for names below U+D800.
  for (const name of names) if (/[\ud800-\uffff]/.test(name)) return names.sort(compareBytes);
  return names.sort();
}
