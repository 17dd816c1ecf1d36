import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { mkdir, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errno } from '../base/errors.ts';

/**
 * The writes whose order and success decide what survives a crash; tests put failures in their place. A directory of the
 * store that somebody has removed is made again.
 */
export interface StoreFiles {
  rename(from: string, to: string): Promise<void>;
  renameSync(from: string, to: string): void;
  /** Makes a file and its name durable. */
  sync(path: string): Promise<void>;
  makeDir(path: string, mode: number): void;
}

const DIR_MODE = 0o700;

export const realFiles: StoreFiles = {
  rename: async (from, to) => {
    try {
      await rename(from, to);
    } catch (error) {
      if (errno(error) !== 'ENOENT' || !existsSync(from)) throw error;
      await mkdir(dirname(to), { recursive: true, mode: DIR_MODE });
      await rename(from, to);
    }
  },
  renameSync: (from, to) => {
    try {
      renameSync(from, to);
    } catch (error) {
      if (errno(error) !== 'ENOENT' || !existsSync(from)) throw error;
      mkdirSync(dirname(to), { recursive: true, mode: DIR_MODE });
      renameSync(from, to);
    }
  },
  sync: syncFile,
  makeDir: (path, mode) => {
    try {
      mkdirSync(path, { mode });
    } catch (error) {
      if (errno(error) !== 'ENOENT') throw error;
      mkdirSync(dirname(path), { recursive: true, mode: DIR_MODE });
      mkdirSync(path, { mode });
    }
  },
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
