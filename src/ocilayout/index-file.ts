import { accessSync, closeSync, constants, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from '../base/errors.ts';
import { makeDirs } from '../base/make-dirs.ts';
import { tryFlock } from '../sys/file.ts';
import {
  annotationRef,
  type IndexedDescriptor,
  type IndexName,
  insertEntry,
  LAYOUT_VERSION,
  readIndex,
} from './entries.ts';

/**
 * Adds a descriptor to the `index.json` of an OCI layout folder under each of the names, in place of what had
 * them. Makes the layout when there is none.
 * @throws BuildError when somebody else writes it now or it is no index
 */
export function putIntoIndex(dir: string, descriptor: IndexedDescriptor, names: readonly IndexName[]): void {
  makeDirs(dir);
  const path = join(dir, 'index.json');
  const lock = `${path}.lock`;
  const fd = openSync(lock, constants.O_RDONLY | constants.O_CREAT, 0o600);
  try {
    if (!tryFlock(fd, 'exclusive')) throw new BuildError(`could not lock ${lock}`);
    try {
      writeFileSync(join(dir, 'oci-layout'), LAYOUT_VERSION);
      const index = readIndex(path);
      for (const name of names) insertEntry(index.manifests, descriptor, name);
      const temporary = `${path}.new`;
      writeFileSync(temporary, JSON.stringify(index));
      renameSync(temporary, path);
    } finally {
      rmSync(lock, { force: true });
    }
  } finally {
    closeSync(fd);
  }
}

/** The entries of a layout folder's index; none when there is no index. @throws BuildError for what is no index */
export function readLayoutIndex(dir: string): readonly IndexedDescriptor[] {
  return readIndex(join(dir, 'index.json')).manifests;
}

/** The newest entry that has the tag. @throws when the folder has no index */
export function findInIndex(dir: string, tag: string): IndexedDescriptor | undefined {
  accessSync(join(dir, 'index.json'));
  return readLayoutIndex(dir).findLast(({ annotations }) => annotations?.[annotationRef] === tag);
}
