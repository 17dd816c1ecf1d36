import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from '../../base/errors.ts';
import type { Mount } from '../../oci/mount.ts';
import type { PrepareOptions, SnapshotInfo, SnapshotKind, Snapshotter, SnapshotUsage } from '../snapshot.ts';
import { SnapshotRows, type SnapshotterOptions } from './rows.ts';

/** Snapshots as whole copies of their parents: works everywhere, costs time and space. */
export class NativeSnapshotter implements Snapshotter {
  readonly name = 'native';
  readonly canRebase = false;
  readonly rows: SnapshotRows;
  readonly #jobs: SnapshotterOptions['jobs'];

  constructor(options: SnapshotterOptions) {
    this.rows = new SnapshotRows(options);
    this.#jobs = options.jobs;
  }

  prepare(name: string, parent: string | undefined, options: PrepareOptions = {}): Promise<void> {
    return this.#create(name, 'active', parent, options);
  }

  view(name: string, parent: string | undefined, options: PrepareOptions = {}): Promise<void> {
    return this.#create(name, 'view', parent, options);
  }

  async #create(
    name: string,
    kind: 'active' | 'view',
    parent: string | undefined,
    options: PrepareOptions,
  ): Promise<void> {
    options.signal?.throwIfAborted();
    const below = this.rows.parentOf(name, parent);
    await this.rows.create(name, kind, below, options, async (dir) => {
      const to = join(dir, 'fs');
      mkdirSync(to, { mode: 0o755 });
      chmodSync(to, 0o755);
      // A view reads its parent's copy.
      if (!below || kind === 'view') return;
      const from = join(this.rows.dir(below.id), 'fs');
      await this.#jobs.run('copyTree', { from, to }, options.signal ? { signal: options.signal } : {});
    });
  }

  commit(name: string, active: string, usage?: SnapshotUsage, onto?: string): void {
    if (onto !== undefined) throw new BuildError('the native snapshotter keeps whole trees: no new parent');
    this.rows.commit(name, active, usage);
  }

  mounts(name: string): readonly Mount[] {
    const row = this.rows.need(name);
    const id = row.kind === 'view' && row.parent !== null ? row.parent : row.id;
    const mode = row.kind === 'active' ? 'rw' : 'ro';
    return [{ type: 'bind', source: join(this.rows.dir(id), 'fs'), options: [mode, 'rbind'] }];
  }

  layout(): undefined {
    return undefined;
  }

  stat(name: string): SnapshotInfo | undefined {
    const row = this.rows.get(name);
    return row && this.rows.info(row);
  }

  isWhole(name: string, kind: SnapshotKind): boolean {
    return this.rows.isWhole(name, kind);
  }

  /** A tree is whole by itself; only a view reads its parent's. */
  lost(name: string): readonly string[] {
    const row = this.rows.get(name);
    const depth = row?.kind === 'view' && row.parent !== null ? 1 : 0;
    return this.rows.lost(name, depth);
  }

  usage(name: string, options: { signal?: AbortSignal } = {}): Promise<SnapshotUsage> {
    return this.rows.usage(name, options.signal);
  }

  remove(name: string): void {
    this.rows.remove(name);
  }
}
