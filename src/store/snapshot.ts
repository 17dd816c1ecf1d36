import type { Mount } from '../oci/mount.ts';

export type SnapshotKind = 'active' | 'view' | 'committed';

export interface SnapshotInfo {
  readonly name: string;
  readonly kind: SnapshotKind;
  readonly parent: string | undefined;
  readonly createdAt: Date;
}

/** Size of a snapshot's own part (without parents): bytes on disk and number of inodes, with what the store adds. */
export interface SnapshotUsage {
  readonly size: number;
  readonly inodes: number;
}

/** Where a snapshot's own difference to its parent lies, for snapshotters that keep it apart (overlayfs). */
export interface OverlayLayout {
  /** The snapshot's own directory; whiteouts are overlay ones (char 0/0, opaque xattr). */
  readonly upperDir: string;
  /** Directories of its parents, topmost first. */
  readonly lowerDirs: readonly string[];
}

/**
 * Layered file trees. An active snapshot may be written, a committed one never changes; both may be mounted,
 * the committed one read-only. Every snapshot must be held by a lease (`lease` of prepare and view), and leaves
 * by garbage collection or `remove`.
 */
export interface Snapshotter {
  readonly name: 'overlayfs' | 'native';
  /** Whether a snapshot that was made on nothing may get its parent when it is committed. */
  readonly canRebase: boolean;
  /** A new active snapshot on top of committed `parent`. @throws alreadyExists, notFound. */
  prepare(name: string, parent: string | undefined, options?: PrepareOptions): Promise<void>;
  /** A read-only snapshot of committed `parent` (or of nothing). */
  view(name: string, parent: string | undefined, options?: PrepareOptions): Promise<void>;
  /**
   * Makes active `active` the committed snapshot `name`; its mounts must be gone or read-only by then. `usage` is
   * kept where a walk would count too much: files that other snapshots have as well. When `name` is there and its
   * tree is lost, the new tree takes the place of the old one, below all that stands on it. `onto` is the committed
   * snapshot on which one that was made on nothing is put, as a difference to it (`canRebase`).
   * @throws alreadyExists
   */
  commit(name: string, active: string, usage?: SnapshotUsage, onto?: string): void;
  /** Writable for an active snapshot, read-only for the others. A single bind mount where no layers are stacked. */
  mounts(name: string): readonly Mount[];
  /** The layers behind a snapshot; undefined where the snapshotter keeps whole trees. */
  layout(name: string): OverlayLayout | undefined;
  stat(name: string): SnapshotInfo | undefined;
  /** Whether a snapshot of that kind is there with a tree of its own; not whether its parents have theirs. */
  isWhole(name: string, kind: SnapshotKind): boolean;
  /**
   * Names of the snapshots whose trees are lost among those that a mount of `name` needs, lowest first. A snapshot
   * that has lost its parent for good is dropped, with those that stand on it: then it is named, too.
   */
  lost(name: string): readonly string[];
  /** Walks the snapshot's own part once for a committed snapshot, each time for an active one. */
  usage(name: string, options?: { signal?: AbortSignal }): Promise<SnapshotUsage>;
  /** @throws failedPrecondition when another snapshot stands on it. */
  remove(name: string): void;
}

export interface PrepareOptions {
  readonly lease?: string;
  readonly signal?: AbortSignal;
}
