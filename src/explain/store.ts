import { mkdirSync, rmSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { CheckOptions, Finding } from '../fsck/finding.ts';
import type { Database } from '../store/database.ts';
import { checkExplanations } from './check.ts';
import type { KeptBuild } from './kept.ts';
import type { BuildExplanation } from './types.ts';

const SCHEMA: readonly string[] = [
  `
CREATE TABLE explain_builds (
  seq INTEGER PRIMARY KEY, line TEXT NOT NULL, fingerprint TEXT NOT NULL, data BLOB NOT NULL
);
CREATE UNIQUE INDEX explain_builds_line ON explain_builds (line, fingerprint);
CREATE TABLE explain_contents (build INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (build, digest)) WITHOUT ROWID;
CREATE INDEX explain_contents_digest ON explain_contents (digest);
CREATE TABLE explain_manifests (digest TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE explain_results (seq INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE explain_salt (salt TEXT NOT NULL);
INSERT INTO explain_salt VALUES (hex(randomblob(16)));
`,
];

/** Builds kept of one line, and of all. */
export const MAX_LINE_BUILDS = 8;
const MAX_BUILDS = 1000;
/** Explanations kept, by build. */
const MAX_RESULTS = 500;
/** Of all builds and explanations in the database, and of all manifests. */
const MAX_DATA_BYTES = 32 << 20;
const MAX_MANIFEST_BYTES = 64 << 20;

/**
 * What is known of earlier builds (in the database) and of the files that they used (`<digest>` in a folder). The
 * oldest go first; nothing here is needed for a build.
 */
export class ExplainStore {
  readonly #db: Database;
  readonly #dir: string;
  /** Manifests of builds that have not ended. */
  readonly #fresh = new Set<string>();

  constructor(db: Database, dir: string) {
    this.#db = db;
    this.#dir = dir;
    db.migrate('explain', SCHEMA);
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  /** Makes digests of hidden values useless elsewhere. */
  get salt(): string {
    return this.#db.get<{ salt: string }>('SELECT salt FROM explain_salt')?.salt ?? '';
  }

  /** Where the manifest of a content digest is. */
  manifest(digest: string): string {
    return join(this.#dir, digest.replace(/^sha256:/, ''));
  }

  hasManifest(digest: string): boolean {
    if (this.#fresh.has(digest)) return true;
    return this.#db.get('SELECT 1 FROM explain_manifests WHERE digest = ?', digest) !== undefined;
  }

  /** Keeps a manifest until a build that names it is put, or the next start. */
  expectManifest(digest: string): void {
    this.#fresh.add(digest);
  }

  putManifest(digest: string, size: number): void {
    this.#db.run('INSERT OR REPLACE INTO explain_manifests VALUES (?, ?)', digest, size);
  }

  dropManifest(digest: string): void {
    this.#fresh.delete(digest);
    this.#remove([digest]);
  }

  /** Makes the kept build of this fingerprint the newest of its line; false when there is none. */
  touch(line: string, fingerprint: string): boolean {
    const newest = this.#db.get<{ seq: number; fingerprint: string }>(
      'SELECT seq, fingerprint FROM explain_builds WHERE line = ? ORDER BY seq DESC LIMIT 1',
      line,
    );
    if (newest?.fingerprint === fingerprint) return true;
    return this.#db.transaction(() => {
      const row = this.#db.get<{ seq: number }>(
        'SELECT seq FROM explain_builds WHERE line = ? AND fingerprint = ?',
        line,
        fingerprint,
      );
      if (!row) return false;
      const seq = this.#nextSeq();
      this.#db.run('UPDATE explain_builds SET seq = ? WHERE seq = ?', seq, row.seq);
      this.#db.run('UPDATE explain_contents SET build = ? WHERE build = ?', seq, row.seq);
      return true;
    });
  }

  /** Builds of a line, the newest first. */
  builds(line: string): KeptBuild[] {
    return this.#db
      .all<{ data: Uint8Array }>(
        'SELECT data FROM explain_builds WHERE line = ? ORDER BY seq DESC LIMIT ?',
        line,
        MAX_LINE_BUILDS,
      )
      .flatMap(({ data }) => unpack<KeptBuild>(data) ?? []);
  }

  put(line: string, fingerprint: string, build: KeptBuild): void {
    const contents = new Set(build.steps.flatMap((step) => step.contents).filter((digest) => digest !== ''));
    const data = pack(build);
    this.#db.transaction(() => {
      this.#dropBuilds('line = ? AND fingerprint = ?', line, fingerprint);
      const seq = this.#nextSeq();
      this.#db.run('INSERT INTO explain_builds VALUES (?, ?, ?, ?)', seq, line, fingerprint, data);
      for (const digest of contents) this.#db.run('INSERT INTO explain_contents VALUES (?, ?)', seq, digest);
      this.#dropBuilds(
        'seq IN (SELECT seq FROM explain_builds WHERE line = ? ORDER BY seq DESC LIMIT -1 OFFSET ?)',
        line,
        MAX_LINE_BUILDS,
      );
      this.#dropBuilds(
        'seq IN (SELECT seq FROM explain_builds ORDER BY seq DESC LIMIT -1 OFFSET ?)',
        MAX_BUILDS,
      );
      while (this.#isOver()) this.#dropOldest();
    });
    for (const digest of contents) this.#fresh.delete(digest);
    this.#sweepManifests();
  }

  result(ref: string): BuildExplanation | undefined {
    const row = this.#db.get<{ data: Uint8Array }>('SELECT data FROM explain_results WHERE ref = ?', ref);
    return row && unpack<BuildExplanation>(row.data);
  }

  putResult(ref: string, explanation: BuildExplanation): void {
    this.#db.transaction(() => {
      this.#db.run(
        'INSERT OR REPLACE INTO explain_results (ref, data) VALUES (?, ?)',
        ref,
        pack(explanation),
      );
      this.#db.run(
        'DELETE FROM explain_results WHERE seq IN (SELECT seq FROM explain_results ORDER BY seq DESC LIMIT -1 OFFSET ?)',
        MAX_RESULTS,
      );
    });
  }

  dropResult(ref: string): void {
    this.#db.run('DELETE FROM explain_results WHERE ref = ?', ref);
  }

  /** Removes files that a dead daemon left. */
  async sweep(): Promise<void> {
    for (const name of await readdir(this.#dir))
      if (!this.hasManifest(`sha256:${name}`)) await rm(join(this.#dir, name), { force: true });
  }

  /** What is not as it should be, for a check of the store. */
  check(options: CheckOptions, discard: (path: string) => void): AsyncGenerator<Finding> {
    const parts = {
      db: this.#db,
      dir: this.#dir,
      isFresh: (digest: string) => this.#fresh.has(digest),
      isReadable: (data: Uint8Array) => unpack(data) !== undefined,
      dropBuild: (seq: number) => {
        this.#dropBuilds('seq = ?', seq);
        this.#sweepManifests();
      },
      dropResult: (ref: string) => this.dropResult(ref),
      dropManifest: (digest: string) => this.dropManifest(digest),
      discard,
    };
    return checkExplanations(parts, options);
  }

  #nextSeq(): number {
    const row = this.#db.get<{ seq: number | null }>('SELECT max(seq) AS seq FROM explain_builds');
    return (row?.seq ?? 0) + 1;
  }

  #isOver(): boolean {
    const sum = (sql: string): number => this.#db.get<{ sum: number | null }>(sql)?.sum ?? 0;
    const data =
      sum('SELECT sum(length(data)) AS sum FROM explain_builds') +
      sum('SELECT sum(length(data)) AS sum FROM explain_results');
    const files = sum(
      'SELECT sum(size) AS sum FROM explain_manifests WHERE digest IN (SELECT digest FROM explain_contents)',
    );
    return data > MAX_DATA_BYTES || files > MAX_MANIFEST_BYTES;
  }

  #dropOldest(): void {
    const gone = this.#dropBuilds('seq = (SELECT min(seq) FROM explain_builds)');
    const results = gone > 0 ? 'seq = (SELECT min(seq) FROM explain_results)' : 'TRUE';
    this.#db.run(`DELETE FROM explain_results WHERE ${results}`);
  }

  #dropBuilds(where: string, ...values: (string | number)[]): number {
    const rows = this.#db.all<{ seq: number }>(`SELECT seq FROM explain_builds WHERE ${where}`, ...values);
    for (const { seq } of rows) {
      this.#db.run('DELETE FROM explain_contents WHERE build = ?', seq);
      this.#db.run('DELETE FROM explain_builds WHERE seq = ?', seq);
    }
    return rows.length;
  }

  /** Drops manifests that no build names. */
  #sweepManifests(): void {
    const rows = this.#db.all<{ digest: string }>(
      'SELECT digest FROM explain_manifests WHERE digest NOT IN (SELECT digest FROM explain_contents)',
    );
    this.#remove(rows.map(({ digest }) => digest).filter((digest) => !this.#fresh.has(digest)));
  }

  #remove(digests: readonly string[]): void {
    for (const digest of digests) {
      this.#db.run('DELETE FROM explain_manifests WHERE digest = ?', digest);
      try {
        rmSync(this.manifest(digest), { force: true }); // with its row: a check would take it for left over
      } catch {
        // A file that stays is swept at the next start.
      }
    }
  }
}

function pack(value: unknown): Uint8Array {
  return zstdCompressSync(JSON.stringify(value));
}

/** Undefined for what is damaged: it says less than it could, and hides nothing else. */
function unpack<T extends object>(data: Uint8Array): T | undefined {
  try {
    return JSON.parse(zstdDecompressSync(data).toString()) as T;
  } catch {
    return undefined;
  }
}
