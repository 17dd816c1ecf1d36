import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type CheckOptions, type Finding, ROWS_PER_TURN } from '../fsck/finding.ts';
import type { Database } from '../store/database.ts';
import { isManifestFile } from './manifest.ts';

export interface ExplainCheckParts {
  readonly db: Database;
  /** Manifests lie here. */
  readonly dir: string;
  /** Whether a build that runs is about to keep it. */
  readonly isFresh: (digest: string) => boolean;
  readonly isReadable: (data: Uint8Array) => boolean;
  readonly dropBuild: (seq: number) => void;
  readonly dropResult: (ref: string) => void;
  readonly dropManifest: (digest: string) => void;
  readonly discard: (path: string) => void;
}

/** What is known of earlier builds: rows that can be read, and files of what they read. Nothing of it is needed. */
export async function* checkExplanations(
  parts: ExplainCheckParts,
  { deep, signal }: CheckOptions,
): AsyncGenerator<Finding> {
  yield* checkRows(parts, signal);
  const { db, dir, dropManifest, discard } = parts;
  const path = (digest: string): string => join(dir, digest.replace(/^sha256:/, ''));
  const knows = (digest: string): boolean =>
    db.get('SELECT 1 FROM explain_manifests WHERE digest = ?', digest) !== undefined;
  let looked = 0;
  for (const { digest } of db.all<{ digest: string }>('SELECT digest FROM explain_manifests')) {
    if (++looked % ROWS_PER_TURN === 0) await nextTurn();
    signal.throwIfAborted();
    const problem = !existsSync(path(digest))
      ? 'its list of files is missing'
      : deep && !isManifestFile(path(digest))
        ? 'its list of files is damaged'
        : undefined;
    if (problem === undefined || parts.isFresh(digest) || !knows(digest)) continue;
    yield { kind: 'explanation', id: digest, problem, leftover: true, repair: () => dropManifest(digest) };
  }
  for (const name of readdirSync(dir)) {
    const full = join(dir, name);
    if (parts.isFresh(`sha256:${name}`) || knows(`sha256:${name}`) || !existsSync(full)) continue;
    const repair = (): void => discard(full);
    yield { kind: 'file', id: `explain/${name}`, problem: 'nothing knows it', leftover: true, repair };
  }
}

async function* checkRows(
  { db, isReadable, dropBuild, dropResult }: ExplainCheckParts,
  signal: AbortSignal,
): AsyncGenerator<Finding> {
  const unreadable = { kind: 'explanation', problem: 'it is unreadable', leftover: true } as const;
  const isDamaged = async (sql: string, key: string | number): Promise<boolean> => {
    await nextTurn(); // they are unpacked here
    signal.throwIfAborted();
    const row = db.get<{ data: Uint8Array }>(sql, key);
    return row !== undefined && !isReadable(row.data);
  };
  for (const { seq, line } of db.all<{ seq: number; line: string }>('SELECT seq, line FROM explain_builds'))
    if (await isDamaged('SELECT data FROM explain_builds WHERE seq = ?', seq))
      yield { ...unreadable, id: line, repair: () => dropBuild(seq) };
  for (const { ref } of db.all<{ ref: string }>('SELECT ref FROM explain_results'))
    if (await isDamaged('SELECT data FROM explain_results WHERE ref = ?', ref))
      yield { ...unreadable, id: ref, repair: () => dropResult(ref) };
  const orphans = 'FROM explain_contents WHERE build NOT IN (SELECT seq FROM explain_builds)';
  const count = db.get<{ n: number }>(`SELECT count(*) AS n ${orphans}`)?.n ?? 0;
  if (count === 0) return;
  const problem = `${count} rows belong to builds that are gone`;
  const repair = (): void => void db.run(`DELETE ${orphans}`);
  yield { kind: 'database', id: 'explain_contents', problem, leftover: true, repair };
}
