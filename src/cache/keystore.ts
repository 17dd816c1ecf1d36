import { setImmediate as nextTurn } from 'node:timers/promises';
import type { KeyBacklink, KeyLink, KeyRecord, KeyStore } from '../solver/keystore.ts';
import type { Database } from '../store/database.ts';

/** Rows keep their insertion order by rowid: the oldest link and the newest record have to be found first. */
const SCHEMA: readonly string[] = [
  `
CREATE TABLE key_links (
  seq INTEGER PRIMARY KEY, source TEXT NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
  digest TEXT NOT NULL, selector TEXT NOT NULL, target TEXT NOT NULL
);
CREATE UNIQUE INDEX key_links_way ON key_links (source, digest, input, output, selector, target);
CREATE INDEX key_links_target ON key_links (target);
CREATE TABLE key_records (
  seq INTEGER PRIMARY KEY, key TEXT NOT NULL, result TEXT NOT NULL, created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX key_records_key ON key_records (key, result);
CREATE INDEX key_records_result ON key_records (result);
`,
];

interface BacklinkRow extends KeyLink {
  source: string;
}

/** The solver's cache graph in the database (FEATURES E4). A write is some 30 µs and survives the process. */
export class SqlKeyStore implements KeyStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
    db.migrate('keys', SCHEMA);
  }

  query(from: string, link: KeyLink): readonly string[] {
    return this.#db
      .all<{ target: string }>(
        `SELECT target FROM key_links
         WHERE source = ? AND digest = ? AND input = ? AND output = ? AND selector = ? ORDER BY seq`,
        from,
        link.digest,
        link.input,
        link.output,
        link.selector,
      )
      .map(({ target }) => target);
  }

  records(key: string): readonly KeyRecord[] {
    return this.#db
      .all<{ result: string; created_at: number }>(
        'SELECT result, created_at FROM key_records WHERE key = ? ORDER BY created_at DESC, seq DESC',
        key,
      )
      .map((row) => ({ key, resultId: row.result, createdAt: row.created_at }));
  }

  backlinks(key: string): readonly KeyBacklink[] {
    return this.#db
      .all<BacklinkRow>(
        'SELECT source, input, output, digest, selector FROM key_links WHERE target = ? ORDER BY input, seq',
        key,
      )
      .map(({ source, input, output, digest, selector }) => ({
        from: source,
        link: { input, output, digest, selector },
      }));
  }

  link(from: string, link: KeyLink, to: string): void {
    this.#db.run(
      `INSERT OR IGNORE INTO key_links (source, input, output, digest, selector, target) VALUES (?, ?, ?, ?, ?, ?)`,
      from,
      link.input,
      link.output,
      link.digest,
      link.selector,
      to,
    );
  }

  addRecord(record: KeyRecord): void {
    this.#db.run(
      'INSERT OR REPLACE INTO key_records (key, result, created_at) VALUES (?, ?, ?)',
      record.key,
      record.resultId,
      record.createdAt,
    );
  }

  releaseResult(resultId: string): void {
    this.#db.transaction(() => {
      const rows = this.#db.all<{ key: string }>('SELECT key FROM key_records WHERE result = ?', resultId);
      if (rows.length === 0) return;
      this.#db.run('DELETE FROM key_records WHERE result = ?', resultId);
      const open = rows.map(({ key }) => key);
      for (let key = open.pop(); key !== undefined; key = open.pop()) open.push(...this.#dropIfBare(key));
    });
  }

  /** Removes the ways to a key that has neither records nor links going out; gives the keys they came from. */
  #dropIfBare(key: string): string[] {
    const needed = this.#db.get(
      `SELECT 1 WHERE EXISTS (SELECT 1 FROM key_records WHERE key = ?1)
         OR EXISTS (SELECT 1 FROM key_links WHERE source = ?1)`,
      key,
    );
    if (needed) return [];
    const sources = this.#db.all<{ source: string }>(
      'SELECT DISTINCT source FROM key_links WHERE target = ?',
      key,
    );
    if (sources.length > 0) this.#db.run('DELETE FROM key_links WHERE target = ?', key);
    return sources.map(({ source }) => source);
  }

  /** Forgets the results that are gone, with a turn for others between pages. */
  async releaseUnreferenced(exists: (resultId: string) => boolean, signal: AbortSignal): Promise<void> {
    let seen = 0;
    for (const id of this.resultIds()) {
      if (!exists(id)) this.releaseResult(id);
      if (++seen % RESULT_PAGE > 0) continue;
      await nextTurn();
      signal.throwIfAborted();
    }
  }

  *resultIds(): Iterable<string> {
    for (let after = ''; ; ) {
      const page = this.#db.all<{ result: string }>(
        'SELECT DISTINCT result FROM key_records WHERE result > ? ORDER BY result LIMIT ?',
        after,
        RESULT_PAGE,
      );
      for (const { result } of page) yield result;
      const last = page.at(-1);
      if (!last || page.length < RESULT_PAGE) return;
      after = last.result;
    }
  }
}

const RESULT_PAGE = 500;
