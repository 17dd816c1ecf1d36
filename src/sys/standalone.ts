import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getAsset, getRawAsset, isSea } from 'node:sea';

/** True in an executable that carries everything in one file (scripts/build-standalone.mjs). */
export function isStandalone(): boolean {
  return isSea();
}

/** A text that the executable carries. @throws when there is none of that name */
export function textAsset(name: string): string {
  return getAsset(name, 'utf8');
}

/**
 * Loads a native module that the executable carries. The system loads libraries from files only: it is
 * written, once and under the name of its digest (asset `<name>.sha256`), to a directory of the user's own.
 */
export function nativeAsset(name: string): unknown {
  const bytes = new Uint8Array(getRawAsset(name));
  const file = `${textAsset(`${name}.sha256`)}.node`;
  const problems: string[] = [];
  for (const parent of ['/run', tmpdir()]) {
    try {
      const path = provide(join(parent, `buildkit-ts-${process.geteuid?.() ?? 0}`), file, bytes);
      const module = { exports: {} };
      process.dlopen(module, path);
      return module.exports;
    } catch (error) {
      // Not writable, or mounted without execution: the next place.
      problems.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(`no place to load ${name} from: ${problems.join('; ')}`);
}

/** The path of a file with these bytes, in a directory that nobody else can write to. */
function provide(dir: string, name: string, bytes: Uint8Array): string {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const { uid, mode } = statSync(dir);
  if (uid !== process.geteuid?.() || (mode & 0o022) !== 0) throw new Error(`${dir}: others can write to it`);
  const path = join(dir, name);
  if (holds(path, bytes)) return path;
  const temporary = `${path}.${process.pid}.${process.hrtime.bigint()}`;
  try {
    writeFileSync(temporary, bytes, { mode: 0o500, flag: 'wx' });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  return path;
}

function holds(path: string, bytes: Uint8Array): boolean {
  try {
    return readFileSync(path).equals(bytes);
  } catch {
    // Not written yet.
    return false;
  }
}
