import type { Digest } from '../base/digest.ts';
import type { Database, SqlValue } from '../store/database.ts';
import type { RecordMetadata } from './metadata.ts';
import type { RecordType } from './ref.ts';

/** Times are Unix milliseconds, flags 0 or 1, lists JSON arrays. `size` is null until it is measured. */
const SCHEMA: readonly string[] = [
  `
CREATE TABLE records (
  id TEXT PRIMARY KEY, mutable INTEGER NOT NULL, parent TEXT, snapshot TEXT NOT NULL,
  blob_only INTEGER NOT NULL, equal_mutable TEXT, type TEXT NOT NULL, description TEXT NOT NULL,
  retain INTEGER NOT NULL, created_at INTEGER NOT NULL, size INTEGER,
  last_used_at INTEGER, usage_count INTEGER NOT NULL,
  diff_id TEXT, chain_id TEXT, blob_chain_id TEXT,
  blob TEXT, media_type TEXT, blob_size INTEGER, annotations TEXT NOT NULL, urls TEXT NOT NULL,
  image_refs TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX records_parent ON records (parent) WHERE parent IS NOT NULL;
CREATE INDEX records_chain ON records (chain_id) WHERE chain_id IS NOT NULL;
CREATE INDEX records_blob_chain ON records (blob_chain_id) WHERE blob_chain_id IS NOT NULL;
CREATE INDEX records_equal ON records (equal_mutable) WHERE equal_mutable IS NOT NULL;
CREATE INDEX records_unfinished ON records (id) WHERE mutable = 1 AND retain = 0;
CREATE TABLE record_values (
  record TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (record, key)
) WITHOUT ROWID;
CREATE INDEX record_values_search ON record_values (key, value);
`,
  // What a record of kind merge or diff is made from; several may be the same.
  `
ALTER TABLE records ADD COLUMN kind TEXT NOT NULL DEFAULT 'layer';
CREATE TABLE record_sources (
  record TEXT NOT NULL, position INTEGER NOT NULL, source TEXT NOT NULL, PRIMARY KEY (record, position)
) WITHOUT ROWID;
CREATE INDEX record_sources_source ON record_sources (source);
`,
  // What several records share is counted once; the least recently used are found without looking at all.
  `
CREATE INDEX records_blob ON records (blob) WHERE blob IS NOT NULL;
CREATE INDEX records_snapshot ON records (snapshot);
CREATE INDEX records_used ON records (last_used_at, id);
CREATE INDEX records_unmeasured ON records (id) WHERE size IS NULL;
`,
];

/**
 * `layer`: an own difference to its parent, if it has one. `merge`: all its sources on top of one another. `diff`:
 * what leads from the first source to the second, or to nothing.
 */
export type RecordKind = 'layer' | 'merge' | 'diff';

export interface RecordRow {
  id: string;
  kind: RecordKind;
  mutable: number;
  parent: string | null;
  /** Name of the snapshot; it need not exist yet (a lazy layer), and several records may share one. */
  snapshot: string;
  /** The record itself has no tree yet: its size is that of its blob, if it has one. */
  blob_only: number;
  /** Of an immutable record: the mutable one whose snapshot it shares until it is finalized. */
  equal_mutable: string | null;
  type: RecordType;
  description: string;
  retain: number;
  created_at: number;
  size: number | null;
  last_used_at: number | null;
  usage_count: number;
  diff_id: Digest | null;
  chain_id: Digest | null;
  blob_chain_id: Digest | null;
  blob: Digest | null;
  media_type: string | null;
  blob_size: number | null;
  annotations: string;
  urls: string;
  image_refs: string;
}

const COLUMNS: readonly (keyof RecordRow)[] = [
  'id',
  'kind',
  'mutable',
  'parent',
  'snapshot',
  'blob_only',
  'equal_mutable',
  'type',
  'description',
  'retain',
  'created_at',
  'size',
  'last_used_at',
  'usage_count',
  'diff_id',
  'chain_id',
  'blob_chain_id',
  'blob',
  'media_type',
  'blob_size',
  'annotations',
  'urls',
  'image_refs',
];
const INSERT = `INSERT INTO records (${COLUMNS.join(', ')}) VALUES (${COLUMNS.map(() => '?').join(', ')})`;
/** Rows read at once: bounds the pause of the main thread. */
const PAGE = 256;
const LEAN_PAGE = 1024;
/** Behind every id: those are hexadecimal. */
const LAST_ID = '~';
const LEAVES = `NOT EXISTS (SELECT 1 FROM records c WHERE c.parent = r.id)
  AND NOT EXISTS (SELECT 1 FROM record_sources s WHERE s.source = r.id)
  AND (last_used_at IS NULL OR last_used_at <= ?3)`;

export type SizeRow = Pick<RecordRow, 'id' | 'mutable' | 'equal_mutable' | 'size'>;
export type LeafRow = Pick<RecordRow, 'id' | 'last_used_at' | 'usage_count'>;

/** Rows of the records and their free values. */
export class RecordTable {
  readonly db: Database;

  constructor(db: Database) {
    this.db = db;
    db.migrate('records', SCHEMA);
  }

  insert(row: RecordRow, sources: readonly string[] = []): void {
    this.db.run(INSERT, ...COLUMNS.map((column): SqlValue => row[column]));
    for (const [position, source] of sources.entries())
      this.db.run('INSERT INTO record_sources VALUES (?, ?, ?)', row.id, position, source);
  }

  /** Ids of the records that this one is made from: its parent, or its sources in order. */
  parents({ id, kind, parent }: RecordRow): string[] {
    if (kind === 'layer') return parent === null ? [] : [parent];
    return this.db
      .all<{ source: string }>('SELECT source FROM record_sources WHERE record = ? ORDER BY position', id)
      .map(({ source }) => source);
  }

  get(id: string): RecordRow | undefined {
    return this.db.get<RecordRow>('SELECT * FROM records WHERE id = ?', id);
  }

  /** Writes the given columns and the same fields of `row`. */
  update(row: RecordRow, changes: Partial<Omit<RecordRow, 'id'>>): void {
    const names = Object.keys(changes) as (keyof typeof changes)[];
    if (names.length === 0) return;
    const values = names.map((name): SqlValue => changes[name] ?? null);
    this.db.run(
      `UPDATE records SET ${names.map((n) => `${n} = ?`).join(', ')} WHERE id = ?`,
      ...values,
      row.id,
    );
    Object.assign(row, changes);
  }

  delete(id: string): void {
    this.db.run('DELETE FROM record_values WHERE record = ?', id);
    this.db.run('DELETE FROM record_sources WHERE record = ?', id);
    this.db.run('DELETE FROM records WHERE id = ?', id);
  }

  hasChildren(id: string): boolean {
    const child = this.db.get(
      'SELECT 1 FROM records WHERE parent = ?1 UNION ALL SELECT 1 FROM record_sources WHERE source = ?1',
      id,
    );
    return child !== undefined;
  }

  /** The record and all that stand on it, layer by layer. */
  standingOn(id: string): string[] {
    return this.db
      .all<{ id: string }>(
        `WITH RECURSIVE above(id) AS (
           SELECT ? UNION SELECT r.id FROM records r JOIN above a ON r.parent = a.id
         ) SELECT id FROM above`,
        id,
      )
      .map((row) => row.id);
  }

  /** The immutable record that shares the snapshot of mutable `id`. */
  equalImmutable(id: string): RecordRow | undefined {
    return this.db.get<RecordRow>('SELECT * FROM records WHERE equal_mutable = ?', id);
  }

  /** Whether the size of another record counts what lies behind `value`. */
  isCounted(column: 'blob' | 'snapshot', value: string, id: string): boolean {
    const tree = column === 'snapshot' ? 'AND blob_only = 0' : '';
    return (
      this.db.get(
        `SELECT 1 FROM records WHERE ${column} = ? AND id <> ? AND size IS NOT NULL ${tree}`,
        value,
        id,
      ) !== undefined
    );
  }

  /** Other records with the blob or the snapshot of `row`. */
  sharers({ id, blob, snapshot }: RecordRow): string[] {
    return this.db
      .all<{ id: string }>(
        'SELECT id FROM records WHERE blob = ?1 AND id <> ?3 UNION SELECT id FROM records WHERE snapshot = ?2 AND id <> ?3',
        blob,
        snapshot,
        id,
      )
      .map((row) => row.id);
  }

  byChain(column: 'chain_id' | 'blob_chain_id', digest: Digest): RecordRow[] {
    return this.db.all<RecordRow>(
      `SELECT * FROM records WHERE ${column} = ? ORDER BY created_at, id`,
      digest,
    );
  }

  /** Mutable records that nobody wants to keep: what a dead daemon left. */
  unfinished(): string[] {
    return this.db
      .all<{ id: string }>('SELECT id FROM records WHERE mutable = 1 AND retain = 0')
      .map(({ id }) => id);
  }

  /** Whether more than `count` records have not been measured. */
  hasUnmeasured(count: number): boolean {
    return this.db.all('SELECT id FROM records WHERE size IS NULL LIMIT ?', count + 1).length > count;
  }

  /** All rows, in pages by id. */
  pages(): Iterable<readonly RecordRow[]> {
    return this.#pages<RecordRow>(PAGE, '*', '?3 IS NULL', null);
  }

  /** What sums of sizes need. */
  sizePages(): Iterable<readonly SizeRow[]> {
    return this.#pages<SizeRow>(LEAN_PAGE, 'id, mutable, equal_mutable, size', '?3 IS NULL', null);
  }

  /** Records that no other stands on and that nobody has used since `cutOff`. */
  leafPages(cutOff: number): Iterable<readonly LeafRow[]> {
    return this.#pages<LeafRow>(LEAN_PAGE, 'id, last_used_at, usage_count', LEAVES, cutOff);
  }

  /** All records, those never used first, then by their last use. */
  *leastRecentPages(): Iterable<readonly LeafRow[]> {
    const columns = 'SELECT id, last_used_at, usage_count FROM records WHERE';
    for (let after = ''; ; ) {
      const sql = `${columns} last_used_at IS NULL AND id > ? ORDER BY id LIMIT ?`;
      const page = this.db.all<LeafRow>(sql, after, PAGE);
      yield page;
      if (page.length < PAGE) break;
      after = page.at(-1)!.id;
    }
    for (let after: readonly [number, string] = [Number.MIN_SAFE_INTEGER, '']; ; ) {
      const sql = `${columns} (last_used_at, id) > (?, ?) ORDER BY last_used_at, id LIMIT ?`;
      const page = this.db.all<LeafRow>(sql, ...after, PAGE);
      yield page;
      if (page.length < PAGE) return;
      const { last_used_at, id } = page.at(-1)!;
      after = [last_used_at ?? 0, id];
    }
  }

  /** Each page is what `where` leaves of the next `size` rows, so that none takes long. */
  *#pages<Row>(size: number, columns: string, where: string, value: SqlValue): Iterable<readonly Row[]> {
    for (let after = ''; ; ) {
      const end = this.db.get<{ id: string }>(
        'SELECT id FROM records WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?',
        after,
        size - 1,
      )?.id;
      const sql = `SELECT ${columns} FROM records r WHERE id > ?1 AND id <= ?2 AND ${where} ORDER BY id`;
      yield this.db.all<Row>(sql, after, end ?? LAST_ID, value);
      if (end === undefined) return;
      after = end;
    }
  }

  value(id: string, key: string): string | undefined {
    return this.db.get<{ value: string }>(
      'SELECT value FROM record_values WHERE record = ? AND key = ?',
      id,
      key,
    )?.value;
  }

  setValue(id: string, key: string, value: string | undefined): void {
    if (value === undefined) this.db.run('DELETE FROM record_values WHERE record = ? AND key = ?', id, key);
    else this.db.run('INSERT OR REPLACE INTO record_values VALUES (?, ?, ?)', id, key, value);
  }

  search(key: string, value: string): string[] {
    return this.db
      .all<{ id: string }>(
        `SELECT r.id FROM record_values v JOIN records r ON r.id = v.record
         WHERE v.key = ? AND v.value = ? ORDER BY r.created_at, r.id`,
        key,
        value,
      )
      .map(({ id }) => id);
  }

  searchPrefix(key: string, prefix: string): string[] {
    return this.db
      .all<{ id: string }>(
        `SELECT r.id FROM record_values v JOIN records r ON r.id = v.record
         WHERE v.key = ? AND v.value >= ? AND substr(v.value, 1, length(?)) = ? ORDER BY r.created_at, r.id`,
        key,
        prefix,
        prefix,
        prefix,
      )
      .map(({ id }) => id);
  }
}

/** `RecordMetadata` of a row; `row` is the one shared with whoever else holds the record. */
export class RowMetadata implements RecordMetadata {
  readonly #table: RecordTable;
  readonly #row: RecordRow;

  constructor(table: RecordTable, row: RecordRow) {
    this.#table = table;
    this.#row = row;
  }

  get id(): string {
    return this.#row.id;
  }
  get createdAt(): Date {
    return new Date(this.#row.created_at);
  }
  get mutable(): boolean {
    return this.#row.mutable === 1;
  }
  get description(): string {
    return this.#row.description;
  }
  set description(description: string) {
    this.#table.update(this.#row, { description });
  }
  get recordType(): RecordType {
    return this.#row.type;
  }
  set recordType(type: RecordType) {
    this.#table.update(this.#row, { type });
  }
  get retain(): boolean {
    return this.#row.retain === 1;
  }
  set retain(retain: boolean) {
    this.#table.update(this.#row, { retain: retain ? 1 : 0 });
  }
  get imageRefs(): readonly string[] {
    return JSON.parse(this.#row.image_refs) as string[];
  }
  get lastUsedAt(): Date | undefined {
    return this.#row.last_used_at === null ? undefined : new Date(this.#row.last_used_at);
  }
  get usageCount(): number {
    return this.#row.usage_count;
  }
  get(key: string): string | undefined {
    return this.#table.value(this.#row.id, key);
  }
  set(key: string, value: string | undefined): void {
    this.#table.setValue(this.#row.id, key, value);
  }
}
