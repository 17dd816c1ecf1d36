import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { BuildError, Code, errno } from '../base/errors.ts';
import type { Pacer } from '../base/pacer.ts';
import type { Logger } from '../base/log.ts';
import type { JobRunner } from '../pool/types.ts';
import { detachUnder } from '../sys/mount.ts';
import { Collector } from './collector.ts';
import { LocalContentStore } from './content/local-content.ts';
import { Database, rebuildFile } from './database.ts';
import { DiskMeter } from './disk-meter.ts';
import type { DiskUse } from './disk-use.ts';
import { realFiles, type StoreFiles } from './files.ts';
import type { StoreJobs } from './jobs.ts';
import { STATE_DIR, type StoreLayout, storeLayout } from './layout.ts';
import { SqlLeaseStore } from './lease-store.ts';
import { Rebuilds } from './rebuilds.ts';
import { isDatabaseDamage, type Salvaged } from './salvage.ts';
import { STORE_SCHEMA } from './schema.ts';
import { NativeSnapshotter } from './snapshot/native.ts';
import { OverlaySnapshotter, overlaySupport, TRIAL_PREFIX } from './snapshot/overlay.ts';
import type { SnapshotterOptions } from './snapshot/rows.ts';
import { Trash } from './trash.ts';

export interface OpenStoreOptions {
  /** The daemon's root directory; the store takes `<root>/buildkit-ts`. The caller holds the lock on it. */
  readonly root: string;
  /** `auto`, `overlayfs` or `native` (FEATURES A36). */
  readonly snapshotter: string;
  readonly jobs: JobRunner<StoreJobs>;
  /** For what nobody waits for; default `jobs`. */
  readonly background?: JobRunner<StoreJobs>;
  /** Slices garbage collection. */
  readonly pacer?: Pacer;
  readonly log: Logger;
  /** Replaces the writes to the disk, for tests. */
  readonly files?: StoreFiles;
}

/** Everything the daemon keeps on disk. */
export interface Store extends AsyncDisposable {
  readonly layout: StoreLayout;
  readonly jobs: JobRunner<StoreJobs>;
  readonly db: Database;
  readonly content: LocalContentStore;
  readonly snapshots: OverlaySnapshotter | NativeSnapshotter;
  readonly leases: SqlLeaseStore;
  /** Said once at start when `auto` had to fall back. */
  readonly warning: string | undefined;
  /** Collects garbage now; returns how many blobs and snapshots went. Their bytes follow in the background. */
  gc(): Promise<number>;
  /** What lies on the disk now. Callers share one measurement; abort stops this wait. */
  diskUse(signal?: AbortSignal): Promise<DiskUse>;
  /** Resolves when what was collected is off the disk. */
  trashEmptied(): Promise<void>;
  /** Takes a path below the state directory away; its bytes follow in the background. */
  discard(path: string): void;
  /**
   * Tells when the database turned out to be damaged and was rebuilt: rows may be missing. At once when that was so at
   * the start.
   */
  whenRebuilt(listener: () => void): void;
  /** Everything committed so far survives a power cut afterwards. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens or creates the store and clears up after a crash: mounts left below the state directory, temporary files
 * and leases, half-done file operations. Cost does not depend on how much is stored.
 */
export function openStore(options: OpenStoreOptions): Store {
  const { log, jobs, files = realFiles } = options;
  const base = resolve(options.root, STATE_DIR);
  detachUnder(base);
  clearTrials(base);
  const { kind, warning, cleared } = chooseSnapshotter(options);
  // Trees of one snapshotter mean nothing to another, and neither do the records about them.
  const layout = storeLayout(kind === 'overlayfs' ? base : join(base, kind));
  mkdirSync(layout.dir, { recursive: true, mode: 0o711 });
  const trash = new Trash({
    dir: layout.trash,
    log,
    files,
    remove: (paths) => (options.background ?? jobs).run('removeTrees', { paths }),
  });
  if (!isEmpty(layout.tmp)) trash.take(layout.tmp);
  const { db, salvaged } = openDatabase(layout, trash);
  const rebuilds = new Rebuilds({ db, jobs, log }, salvaged);
  db.checkpoint = () => jobs.run('checkpoint', { path: layout.database });
  try {
    const collector = new Collector(db, options.pacer);
    const leases = new SqlLeaseStore(db, () => db.afterCommit(() => collector.schedule()));
    const content = new LocalContentStore({
      db,
      leases,
      collector,
      trash,
      files,
      jobs,
      log,
      dir: layout.dir,
    });
    const rowOptions: SnapshotterOptions = {
      db,
      leases,
      collector,
      trash,
      files,
      jobs,
      log,
      dir: layout.snapshots,
    };
    const snapshots =
      kind === 'overlayfs' ? new OverlaySnapshotter(rowOptions) : new NativeSnapshotter(rowOptions);
    collector.attach(leases, {
      content: (id) => content.remove(id as Parameters<typeof content.remove>[0]),
      snapshot: (id) => snapshots.rows.collect(id),
    });
    finishFileOperations(db, layout, trash);
    leases.deleteStale({ temporary: true });
    collector.schedule();
    trash.start();
    rebuilds.checkLeftOpen();
    const parts = { layout, jobs, db, content, snapshots, leases, warning };
    return assemble(parts, { meter: new DiskMeter(base, parts, jobs), collector, trash, rebuilds, cleared });
  } catch (error) {
    db[Symbol.dispose]();
    throw error;
  }
}

type Parts = Pick<Store, 'layout' | 'jobs' | 'db' | 'content' | 'snapshots' | 'leases' | 'warning'>;

interface Helpers {
  readonly meter: DiskMeter;
  readonly collector: Collector;
  readonly trash: Trash;
  readonly rebuilds: Rebuilds;
  /** Resolves when nothing is left of what was tried. */
  readonly cleared: Promise<void>;
}

function assemble(parts: Parts, { meter, collector, trash, rebuilds, cleared }: Helpers): Store {
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    await rebuilds.close();
    await collector.close();
    await parts.content.close();
    await parts.db.close();
    await trash.close();
    await cleared;
  };
  const store: Store = {
    ...parts,
    gc: () => collector.collect(),
    diskUse: (signal) => meter.measure(signal),
    trashEmptied: () => trash.drained(),
    discard: (path) => void trash.take(path),
    whenRebuilt: (listener) => rebuilds.tell(listener),
    flush: () => parts.db.flush(),
    close: () => (closing ??= close()),
    [Symbol.asyncDispose]: () => store.close(),
  };
  return store;
}

/** What a daemon that died while it tried overlayfs has left. */
function clearTrials(base: string): void {
  if (!existsSync(base)) return;
  for (const name of readdirSync(base))
    if (name.startsWith(TRIAL_PREFIX)) rmSync(join(base, name), { recursive: true, force: true });
}

function chooseSnapshotter(options: OpenStoreOptions): {
  kind: 'overlayfs' | 'native';
  warning: string | undefined;
  /** Resolves when nothing is left of what was tried. */
  cleared: Promise<void>;
} {
  const { snapshotter } = options;
  if (snapshotter === 'native') return { kind: 'native', warning: undefined, cleared: Promise.resolve() };
  if (snapshotter !== 'auto' && snapshotter !== 'overlayfs')
    throw new BuildError(`snapshotter "${snapshotter}" is not supported yet: use auto, overlayfs or native`, {
      code: Code.unimplemented,
    });
  const dir = resolve(options.root, STATE_DIR);
  mkdirSync(dir, { recursive: true, mode: 0o711 });
  const { supported, reason, cleared } = overlaySupport(dir);
  if (supported) {
    cleared.catch((error) => options.log.warn('the trial of overlayfs is still mounted', { error }));
    return { kind: 'overlayfs', warning: undefined, cleared: cleared.catch(() => {}) };
  }
  if (snapshotter === 'overlayfs')
    throw new BuildError(`overlayfs does not work on ${options.root}: ${reason}`, {
      code: Code.failedPrecondition,
    });
  const warning = `overlayfs does not work on ${options.root} (${reason}): using the native snapshotter, which copies whole trees`;
  return { kind: 'native', warning, cleared };
}

/** A damaged database is put aside, and what can be read of it goes on. */
function openDatabase(layout: StoreLayout, trash: Trash): { db: Database; salvaged: Salvaged | undefined } {
  const isNew = !existsSync(layout.database);
  if (isNew) clearOrphans(layout, trash);
  try {
    return { db: migrated(layout.database), salvaged: undefined };
  } catch (error) {
    if (!isDatabaseDamage(error)) throw error;
    const salvaged = rebuildFile(layout.database);
    if (salvaged.rows === 0) clearOrphans(layout, trash);
    return { db: migrated(layout.database), salvaged };
  }
}

function migrated(path: string): Database {
  const db = new Database(path);
  try {
    db.migrate('store', STORE_SCHEMA);
    return db;
  } catch (error) {
    db[Symbol.dispose]();
    throw error;
  }
}

/** After an orderly stop there are at most empty mount points: no reason to start a worker for them. */
function isEmpty(dir: string): boolean {
  try {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (!entry.isDirectory() || !isEmpty(join(dir, entry.name))) return false;
      rmdirSync(join(dir, entry.name));
    }
    return true;
  } catch (error) {
    return errno(error) === 'ENOENT';
  }
}

/** Files that no row of a new database can name. */
function clearOrphans(layout: StoreLayout, trash: Trash): void {
  trash.take(layout.content);
  trash.take(layout.snapshots);
}

/** Paths in the journal belong to removals and publications that a crash cut short. */
function finishFileOperations(db: Database, layout: StoreLayout, trash: Trash): void {
  for (const { path } of db.all<{ path: string }>('SELECT path FROM doomed')) {
    const [area, first, second] = path.split('/');
    const wanted =
      area === 'content'
        ? db.get('SELECT 1 FROM blobs WHERE digest = ?', `${first}:${second}`)
        : db.get('SELECT 1 FROM snapshots WHERE id = ?', Number(first));
    if (!wanted) trash.take(join(layout.dir, path));
  }
  db.run('DELETE FROM doomed');
}
