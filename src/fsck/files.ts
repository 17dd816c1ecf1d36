import { existsSync, statSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Digest } from '../base/digest.ts';
import { hasCode, Code } from '../base/errors.ts';
import { isIndexFile } from '../cache/contenthash-index.ts';
import { type GcGraph, type GcNode, isLive } from '../store/gc.ts';
import { sqlGraph } from '../store/collector.ts';
import type { Database } from '../store/database.ts';
import type { SnapshotRow } from '../store/snapshot/rows.ts';
import type { CheckOptions, CheckParts, Finding } from './finding.ts';
import { ROWS_PER_TURN } from './finding.ts';

const PAGE = 256;
const HEX = /^[0-9a-f]{64}$/;

/** Rows of snapshots and their directories, both ways. */
export async function* checkSnapshots(parts: CheckParts, { signal }: CheckOptions): AsyncGenerator<Finding> {
  const { db, layout } = parts.store;
  for (let after = 0; ; ) {
    const page = db.all<SnapshotRow>('SELECT * FROM snapshots WHERE id > ? ORDER BY id LIMIT ?', after, PAGE);
    for (const { id } of page) {
      if (id % ROWS_PER_TURN === 0) await nextTurn();
      signal.throwIfAborted();
      const row = db.get<SnapshotRow>('SELECT * FROM snapshots WHERE id = ?', id);
      if (row) yield* checkSnapshot(parts, row);
    }
    const last = page.at(-1);
    if (!last || page.length < PAGE) break;
    after = last.id;
  }
  for (const name of await namesIn(layout.snapshots)) {
    if (db.get('SELECT 1 FROM snapshots WHERE id = ?', Number(name)) && /^\d+$/.test(name)) continue;
    yield* orphan(parts, `snapshots/${name}`);
  }
}

function* checkSnapshot(parts: CheckParts, row: SnapshotRow): Generator<Finding> {
  const { db, snapshots } = parts.store;
  const { name } = row;
  const collect = (): void => {
    db.transaction(() => snapshots.rows.collect(name));
  };
  const parent =
    row.parent === null ? undefined : db.get<SnapshotRow>('SELECT * FROM snapshots WHERE id = ?', row.parent);
  if (row.parent !== null && parent?.kind !== 'committed') {
    const problem = parent ? 'it stands on one that is still written' : 'its parent is gone';
    yield { kind: 'snapshot', id: name, problem, repair: collect };
  } else if (!snapshots.rows.hasTree(row.id) && row.kind !== 'view') {
    yield {
      kind: 'snapshot',
      id: name,
      problem: 'its tree is lost',
      repair: () => remake(parts, row, collect),
    };
  } else yield* garbage(parts, { kind: 'snapshot', id: name });
}

/** Unpacks a lost tree again from its blob; without one it goes, with all that stands on it. */
async function remake({ refs, store }: CheckParts, row: SnapshotRow, collect: () => void): Promise<void> {
  const records = store.db.all<{ id: string }>(
    'SELECT id FROM records WHERE snapshot = ? AND blob IS NOT NULL',
    row.name,
  );
  for (const { id } of records)
    try {
      await using ref = await refs.get(id, { countUse: false });
      await ref.extract();
      if (store.snapshots.rows.hasTree(row.id)) return;
    } catch {
      // Its blob is lost as well, or lies elsewhere.
    }
  collect();
}

/** Rows of blobs and their files, both ways. */
export async function* checkBlobs(parts: CheckParts, options: CheckOptions): AsyncGenerator<Finding> {
  const { content, db, layout } = parts.store;
  let looked = 0;
  for await (const { digest } of content.list()) {
    if (++looked % ROWS_PER_TURN === 0) await nextTurn();
    options.signal.throwIfAborted();
    const problem = await blobProblem(parts, digest, options);
    if (problem !== undefined)
      yield { kind: 'blob', id: digest, problem, repair: async () => void (await content.verify(digest)) };
    else yield* garbage(parts, { kind: 'content', id: digest });
  }
  for (const name of await namesIn(join(layout.content, 'sha256'))) {
    if (HEX.test(name) && db.get('SELECT 1 FROM blobs WHERE digest = ?', `sha256:${name}`)) continue;
    yield* orphan(parts, `content/sha256/${name}`);
  }
  const orphans = 'FROM blob_edges WHERE digest NOT IN (SELECT digest FROM blobs)';
  const count = db.get<{ n: number }>(`SELECT count(*) AS n ${orphans}`)?.n ?? 0;
  if (count === 0) return;
  const problem = `${count} rows belong to blobs that are gone`;
  const repair = (): void => void db.run(`DELETE ${orphans}`);
  yield { kind: 'database', id: 'blob_edges', problem, leftover: true, repair };
}

async function blobProblem(
  { store }: CheckParts,
  digest: Digest,
  { deep, signal }: CheckOptions,
): Promise<string | undefined> {
  const path = join(store.layout.content, digest.replace(':', '/'));
  const row = store.content.info(digest);
  if (!row) return undefined;
  const file = statSync(path, { throwIfNoEntry: false });
  if (!file) return 'its file is missing';
  if (!file.isFile() || file.size !== row.size) return `its file has ${file.size} bytes, not ${row.size}`;
  if (!deep) return undefined;
  const found = await store.jobs.run('fileDigest', { path }, { signal }).catch((error: unknown) => error);
  signal.throwIfAborted();
  // Collected meanwhile, or damaged.
  if (found === digest || !store.content.info(digest)) return undefined;
  return typeof found === 'string' ? `its bytes are those of ${found}` : `it cannot be read: ${found}`;
}

/** What nothing keeps and nothing has marked for collection. */
function* garbage({ store }: CheckParts, node: GcNode): Generator<Finding> {
  const { db } = store;
  const graph = sqlGraph(db);
  if (isLive(graph, node)) return;
  // Collected since it was listed.
  const table = node.kind === 'content' ? 'blobs WHERE digest' : 'snapshots WHERE name';
  if (!db.get(`SELECT 1 FROM ${table} = ?`, node.id)) return;
  if (isMarked(db, graph, node)) return;
  const kind = node.kind === 'content' ? 'blob' : 'snapshot';
  const repair = async (): Promise<void> => {
    db.run('INSERT OR IGNORE INTO gc_queue VALUES (?, ?)', node.kind, node.id);
    await store.gc();
  };
  yield { kind, id: node.id, problem: 'nothing keeps it', leftover: true, repair };
}

/** It, or what refers to it, waits for collection, which then marks what it referred to. */
function isMarked(db: Database, graph: GcGraph, node: GcNode): boolean {
  const seen = new Set<string>();
  const open = [node];
  for (let next = open.pop(); next; next = open.pop()) {
    if (seen.has(`${next.kind} ${next.id}`)) continue;
    seen.add(`${next.kind} ${next.id}`);
    if (db.get('SELECT 1 FROM gc_queue WHERE kind = ? AND id = ?', next.kind, next.id)) return true;
    for (const referrer of graph.referrers(next)) open.push(referrer.node);
  }
  return false;
}

/** A path below the state directory without a row, unless it is being made or removed right now. */
function* orphan({ store }: CheckParts, path: string): Generator<Finding> {
  const full = join(store.layout.dir, path);
  if (store.db.get('SELECT 1 FROM doomed WHERE path = ?', path) || !existsSync(full)) return;
  const repair = (): void => store.discard(full);
  yield { kind: 'file', id: path, problem: 'nothing knows it', leftover: true, repair };
}

/** Files with the digests of trees. */
export async function* checkIndexes(
  { refs, indexDir }: CheckParts,
  { deep, signal }: CheckOptions,
): AsyncGenerator<Finding> {
  for (const name of await namesIn(indexDir)) {
    signal.throwIfAborted();
    const [, id, rest] = /^([^.]*)\.index(.*)$/.exec(name) ?? [];
    const path = join(indexDir, name);
    // Written next to its place.
    if (rest !== undefined && rest !== '') continue;
    const repair = (): Promise<void> => rm(path, { recursive: true, force: true });
    const gone = id === undefined || !refs.metadata(id);
    if (gone) yield { kind: 'index', id: name, problem: 'its record is gone', leftover: true, repair };
    else if (deep && !(await isIndexFile(path)) && existsSync(path))
      yield { kind: 'index', id: name, problem: 'it is damaged', leftover: true, repair };
  }
}

async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (hasCode(error, Code.notFound) || (error as { code?: string }).code === 'ENOENT') return [];
    throw error;
  }
}
