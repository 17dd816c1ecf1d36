import { DatabaseSync, type SQLInputValue } from 'node:sqlite';

export interface Salvaged {
  readonly rows: number;
  /** Tables of which rows are lost; `*` when nothing of the file can be read. */
  readonly damaged: readonly string[];
}

interface Table {
  readonly name: string;
  /** Columns that order its rows as they lie in the file. */
  readonly order: readonly string[];
}

/**
 * Copies what can be read of the database `from` into a new one at `to`: tables and indexes as they were, and of each
 * table all rows before and after a damaged place. What a row says is not judged.
 */
export function salvage(from: string, to: string): Salvaged {
  let source: DatabaseSync;
  let objects: { sql: string; name: string; type: string }[];
  try {
    source = new DatabaseSync(from);
    objects = schemaOf(source);
  } catch {
    return { rows: 0, damaged: ['*'] };
  }
  const target = new DatabaseSync(to);
  try {
    // All of it or nothing: a file that is cut short is found as such by whoever opens it.
    target.exec('PRAGMA journal_mode=DELETE; BEGIN');
    const made = objects.filter(({ sql }) => succeeds(() => target.exec(sql)));
    const damaged: string[] = [];
    let rows = 0;
    for (const { name } of made.filter(({ type }) => type === 'table')) {
      const copied = copyTable(source, target, tableOf(target, name));
      rows += copied.rows;
      if (!copied.whole) damaged.push(name);
    }
    target.exec('COMMIT');
    return { rows, damaged };
  } finally {
    target.close();
    succeeds(() => source.close());
  }
}

function schemaOf(db: DatabaseSync): { sql: string; name: string; type: string }[] {
  const rows = db
    .prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    .all();
  return rows as unknown as { sql: string; name: string; type: string }[];
}

function tableOf(db: DatabaseSync, name: string): Table {
  const columns = db.prepare(`PRAGMA table_info(${quoted(name)})`).all() as { name: string; pk: number }[];
  const hasRowId = succeeds(() => db.prepare(`SELECT rowid FROM ${quoted(name)} LIMIT 1`).get());
  const key = columns.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk);
  return { name, order: hasRowId ? ['rowid'] : key.map((column) => quoted(column.name)) };
}

/** From the start up to a damaged place, then from the end down to one. */
function copyTable(
  source: DatabaseSync,
  target: DatabaseSync,
  { name, order }: Table,
): { rows: number; whole: boolean } {
  let rows = 0;
  const copy = (direction: 'ASC' | 'DESC'): boolean =>
    succeeds(() => {
      const by = order.map((column) => `${column} ${direction}`).join(', ');
      const select = source.prepare(`SELECT * FROM ${quoted(name)} NOT INDEXED ORDER BY ${by}`);
      let insert: ReturnType<DatabaseSync['prepare']> | undefined;
      for (const row of select.iterate()) {
        const values = Object.values(row as Record<string, SQLInputValue>);
        insert ??= target.prepare(
          `INSERT OR IGNORE INTO ${quoted(name)} VALUES (${values.map(() => '?').join(', ')})`,
        );
        rows += Number(insert.run(...values).changes);
      }
    });
  if (copy('ASC')) return { rows, whole: true };
  copy('DESC');
  return { rows, whole: false };
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function succeeds(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    // Damage: the caller goes on with what is left.
    return false;
  }
}

const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

/** Whether SQLite says that the file itself is damaged. */
export function isDatabaseDamage(error: unknown): boolean {
  const code = (error as { errcode?: unknown } | undefined)?.errcode;
  return typeof code === 'number' && ((code & 0xff) === SQLITE_CORRUPT || (code & 0xff) === SQLITE_NOTADB);
}
