import { mkdirSync, readdirSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errno } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { StoreFiles } from './files.ts';

export interface TrashOptions {
  readonly dir: string;
  readonly log: Logger;
  readonly files: StoreFiles;
  /** Deletes trees, e.g. in a worker thread; goes on after one that cannot be deleted, then throws. */
  readonly remove: (paths: readonly string[]) => Promise<void>;
}

/** Trees handed over for deletion together. */
const BATCH = 64;

/**
 * Deletes files and trees without making anybody wait: they are renamed into one directory at once and deleted
 * in the background. What a crash leaves there is deleted by the next start.
 */
export class Trash {
  readonly #dir: string;
  readonly #log: Logger;
  readonly #files: StoreFiles;
  readonly #remove: (paths: readonly string[]) => Promise<void>;
  readonly #queue: string[] = [];
  #counter = 0;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(options: TrashOptions) {
    this.#dir = options.dir;
    this.#log = options.log;
    this.#files = options.files;
    this.#remove = options.remove;
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(this.#dir)) this.#queue.push(join(this.#dir, name));
  }

  /** Takes `path` away; false when there is nothing. The name is free when this returns. */
  take(path: string): boolean {
    const target = join(this.#dir, `${process.pid}-${Date.now().toString(36)}-${this.#counter++}`);
    try {
      this.#files.renameSync(path, target);
    } catch (error) {
      if (errno(error) === 'ENOENT') return false;
      throw error;
    }
    this.#queue.push(target);
    this.start();
    return true;
  }

  /** Starts deleting what is there. */
  start(): void {
    if (this.#stopped || this.#running || this.#queue.length === 0) return;
    this.#running = this.#work().finally(() => {
      this.#running = undefined;
      this.start();
    });
  }

  async #work(): Promise<void> {
    while (this.#queue.length > 0 && !this.#stopped) {
      try {
        const trees = await unlinkFiles(this.#queue.splice(0, BATCH));
        if (trees.length > 0) await this.#remove(trees);
      } catch (error) {
        // What is left stays for the next start; a busy mount inside is the usual reason.
        this.#log.warn('cannot delete all of the trash', { dir: this.#dir, error });
      }
    }
  }

  /** Resolves when everything taken so far is deleted (or has failed). */
  async drained(): Promise<void> {
    while (this.#running) await this.#running;
  }

  /** Ends after the deletion under way; the rest waits for the next start. */
  async close(): Promise<void> {
    this.#stopped = true;
    await this.drained();
  }
}

/** Deletes what is no directory, which needs no worker; gives the rest. */
async function unlinkFiles(paths: readonly string[]): Promise<string[]> {
  const trees: string[] = [];
  for (const path of paths) {
    try {
      await unlink(path);
    } catch (error) {
      if (errno(error) !== 'ENOENT') trees.push(path);
    }
  }
  return trees;
}
