import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rootKey } from '../solver/keystore.ts';
import { SqlKeyStore } from '../cache/keystore.ts';
import { newRow, insertRecord } from '../cache/new-record.ts';
import type { Store } from '../store/store.ts';
import { openTestCache } from './cache.ts';
import { openTestStore } from './store.ts';

/** Records on top of one another. */
const CHAIN = 10;
/** Records written in one transaction. */
const BATCH = 1000;
/** Of as many records one has an index of its content. */
const INDEXED = 10;

export interface BigStoreOptions {
  readonly records: number;
  /** As many in turn have the number of their batch at the end of their description. A multiple of ten. */
  readonly batch: number;
}

/**
 * Fills the store of a root directory with records as builds leave them: chains of committed trees with leases, cache
 * keys and links between them. Trees are empty, but all their directories are there.
 */
export async function fillStore(root: string, { records, batch }: BigStoreOptions): Promise<void> {
  await using store = openTestStore(root);
  const refs = openTestCache(store);
  const keys = new SqlKeyStore(store.db);
  const indexes = join(store.layout.dir, 'contenthash');
  mkdirSync(indexes, { recursive: true });
  let parent: { id: string; snapshot: number; key: string } | undefined;
  for (let at = 0; at < records; at += BATCH)
    store.db.transaction(() => {
      for (let n = at; n < Math.min(records, at + BATCH); n++) {
        if (n % CHAIN === 0) parent = undefined;
        const usedAt = Date.now() - (records - n);
        const options = {
          description: `[${(n % CHAIN) + 1}/${CHAIN}] RUN make step ${n} of batch ${Math.floor(n / batch)}`,
          createdAt: new Date(usedAt),
        };
        const row = newRow(options, {
          parent: parent?.id ?? null,
          last_used_at: usedAt,
          usage_count: 1,
          size: TREE_BYTES,
        });
        insertRecord(refs.core.parts, row, options);
        const snapshot = addSnapshot(store, row.snapshot, parent?.snapshot);
        if (n % INDEXED === 0) writeFileSync(join(indexes, `${row.id}.index`), 'x'.repeat(200));
        const key = randomBytes(16).toString('hex');
        keys.link(
          parent?.key ?? rootKey(row.id, 0),
          { input: 0, output: 0, digest: row.id, selector: '' },
          key,
        );
        keys.addRecord({ key, resultId: row.id, createdAt: usedAt });
        parent = { id: row.id, snapshot, key };
      }
    });
  await refs.close();
}

const TREE_BYTES = 3 * 4096;

function addSnapshot({ db, layout }: Store, name: string, parent: number | undefined): number {
  db.run(
    "INSERT INTO snapshots (name, kind, parent, created_at, size, inodes) VALUES (?, 'committed', ?, ?, ?, 3)",
    name,
    parent ?? null,
    Date.now(),
    TREE_BYTES,
  );
  const { id } = db.get<{ id: number }>('SELECT id FROM snapshots WHERE name = ?', name)!;
  for (const dir of ['', 'fs', 'work']) mkdirSync(join(layout.snapshots, String(id), dir));
  return id;
}
