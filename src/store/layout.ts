import { join } from 'node:path';

/** Name of the state directory below the daemon's root. */
export const STATE_DIR = 'buildkit-ts';

/** Places below the state directory (ARCHITECTURE.md, State on disk). */
export interface StoreLayout {
  readonly dir: string;
  readonly database: string;
  readonly content: string;
  readonly snapshots: string;
  readonly tmp: string;
  readonly trash: string;
}

export function storeLayout(dir: string): StoreLayout {
  return {
    dir,
    database: join(dir, 'store.db'),
    content: join(dir, 'content'),
    snapshots: join(dir, 'snapshots'),
    tmp: join(dir, 'tmp'),
    trash: join(dir, 'trash'),
  };
}
