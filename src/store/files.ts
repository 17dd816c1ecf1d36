import { mkdirSync, renameSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errno } from '../base/errors.ts';

/** The writes whose order and success decide what survives a crash; tests put failures in their place. */
export interface StoreFiles {
  rename(from: string, to: string): Promise<void>;
  renameSync(from: string, to: string): void;
  /** Makes a file and its name durable. */
  sync(path: string): Promise<void>;
  makeDir(path: string, mode: number): void;
}

export const realFiles: StoreFiles = {
  rename,
  renameSync,
  sync: syncFile,
  makeDir: (path, mode) => void mkdirSync(path, { mode }),
};

/** The directory entry first, then the file: on the usual file systems the second sync finds nothing to do. */
async function syncFile(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.sync();
  await using dir = await open(dirname(path), 'r');
  try {
    await dir.sync();
  } catch (error) {
    if (errno(error) !== 'EINVAL') throw error; // file systems without directory sync
  }
}
