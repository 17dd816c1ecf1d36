import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, Code } from '../../base/errors.ts';
import type { Mount } from '../../oci/mount.ts';
import { mountAll, umountAsync } from '../../sys/mount.ts';
import type {
  OverlayLayout,
  PrepareOptions,
  SnapshotInfo,
  SnapshotKind,
  Snapshotter,
  SnapshotUsage,
} from '../snapshot.ts';
import { type SnapshotRow, SnapshotRows, type SnapshotterOptions } from './rows.ts';

/**
 * Snapshots as overlayfs layers: `<id>/fs` holds the difference to the parent, `<id>/work` what the kernel needs.
 * Lower directories are read-only to everybody, so that any number of mounts may share them.
 */
export class OverlaySnapshotter implements Snapshotter {
  readonly name = 'overlayfs';
  readonly canRebase = true;
  readonly rows: SnapshotRows;

  constructor(options: SnapshotterOptions) {
    if (/[:,\\]/.test(options.dir))
      throw new BuildError(
        `overlayfs cannot use a directory with one of : , \\ in its name: ${options.dir}`,
        {
          code: Code.invalidArgument,
        },
      );
    this.rows = new SnapshotRows(options);
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
    await this.rows.create(name, kind, below, options, (dir) => {
      const upper = join(dir, 'fs');
      mkdirSync(upper, { mode: 0o755 });
      chmodSync(upper, 0o755);
      if (kind === 'active') mkdirSync(join(dir, 'work'), { mode: 0o711 });
      if (below) this.#takeRoot(upper, below);
    });
  }

  /** The root directory of the merged tree is the topmost layer's. */
  #takeRoot(upper: string, below: SnapshotRow): void {
    const root = statSync(this.#upper(below.id));
    chownSync(upper, root.uid, root.gid);
    chmodSync(upper, root.mode & 0o7777);
  }

  commit(name: string, active: string, usage?: SnapshotUsage, onto?: string): void {
    const below = this.rows.parentOf(undefined, onto);
    if (below) this.#takeRoot(this.#upper(this.rows.need(active).id), below);
    this.rows.commit(name, active, usage, below);
  }

  mounts(name: string): readonly Mount[] {
    const row = this.rows.need(name);
    const lower = this.rows.ancestors(row).map((id) => this.#upper(id));
    if (row.kind === 'active') {
      const upper = this.#upper(row.id);
      if (lower.length === 0) return [bind(upper, 'rw')];
      return [overlay([`workdir=${join(this.rows.dir(row.id), 'work')}`, `upperdir=${upper}`], lower)];
    }
    const layers = row.kind === 'committed' || lower.length === 0 ? [this.#upper(row.id), ...lower] : lower;
    return layers.length === 1 ? [bind(layers[0]!, 'ro')] : [overlay([], layers)];
  }

  layout(name: string): OverlayLayout {
    const row = this.rows.need(name);
    return {
      upperDir: this.#upper(row.id),
      lowerDirs: this.rows.ancestors(row).map((id) => this.#upper(id)),
    };
  }

  stat(name: string): SnapshotInfo | undefined {
    const row: SnapshotRow | undefined = this.rows.get(name);
    return row && this.rows.info(row);
  }

  isWhole(name: string, kind: SnapshotKind): boolean {
    const row = this.rows.get(name);
    if (row?.kind !== kind || !this.rows.hasTree(row.id)) return false;
    // It holds nothing between two mounts.
    if (kind === 'active') mkdirSync(join(this.rows.dir(row.id), 'work'), { recursive: true, mode: 0o711 });
    return true;
  }

  lost(name: string): readonly string[] {
    return this.rows.lost(name);
  }

  usage(name: string, options: { signal?: AbortSignal } = {}): Promise<SnapshotUsage> {
    return this.rows.usage(name, options.signal);
  }

  remove(name: string): void {
    this.rows.remove(name);
  }

  #upper(id: number): string {
    return join(this.rows.dir(id), 'fs');
  }
}

function bind(source: string, mode: 'rw' | 'ro'): Mount {
  return { type: 'bind', source, options: [mode, 'rbind'] };
}

/** Features that would make a layer depend on others, where the kernel knows them. */
const FEATURES = ['index', 'redirect_dir', 'metacopy'];
let featureOptions: readonly string[] | undefined;

function overlay(own: readonly string[], lower: readonly string[]): Mount {
  featureOptions ??= FEATURES.filter((name) => existsSync(`/sys/module/overlay/parameters/${name}`)).map(
    (name) => `${name}=off`,
  );
  return {
    type: 'overlay',
    source: 'overlay',
    options: [...featureOptions, ...own, `lowerdir=${lower.join(':')}`],
  };
}

/** Directories in which overlayfs is tried. */
export const TRIAL_PREFIX = 'probe-';

export interface OverlaySupport {
  readonly supported: boolean;
  /** Why not. */
  readonly reason: string;
  /** Resolves when what was tried is gone again: the kernel takes its time to unmount. */
  readonly cleared: Promise<void>;
}

/** Whether overlayfs works on the file system of `dir`: tried, not guessed. */
export function overlaySupport(dir: string): OverlaySupport {
  const probe = mkdtempSync(join(dir, TRIAL_PREFIX));
  const clear = (): void => rmSync(probe, { recursive: true, force: true });
  try {
    const make = (name: string): string => {
      const path = join(probe, name);
      mkdirSync(path);
      return path;
    };
    const [first, second, upper, work, target] = ['l1', 'l2', 'u', 'w', 'm'].map(make);
    mountAll([overlay([`workdir=${work}`, `upperdir=${upper}`], [first!, second!])], target!);
    return { supported: true, reason: '', cleared: umountAsync(target!).then(clear) };
  } catch (error) {
    clear();
    const reason = error instanceof Error ? error.message : String(error);
    return { supported: false, reason, cleared: Promise.resolve() };
  }
}
