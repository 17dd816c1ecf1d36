import type { Unsettled } from '../archive/settle.ts';
import type { Digest } from '../base/digest.ts';
import type { Mount } from '../oci/mount.ts';
import type { OverlayLayout, SnapshotUsage } from '../store/snapshot.ts';
import type { CompressionType } from './ref.ts';

/** How a layer blob is to be written. */
export interface BlobForm {
  readonly type: CompressionType;
  readonly level?: number;
}

/**
 * A finished file: `digest` and `size` of what was written, `diffId` of all that it unpacks to, `archiveDigest` of
 * the tar inside: estargz has a table of contents behind that.
 */
export interface BlobFile {
  readonly digest: Digest;
  readonly size: number;
  readonly diffId: Digest;
  readonly archiveDigest: Digest;
  /** What the descriptor of the blob has to say. */
  readonly annotations: Readonly<Record<string, string>>;
}

export interface ApplyInput {
  /** Path of the layer blob. */
  readonly blob: string;
  readonly mediaType: string;
  /** The new snapshot, writable, on top of its parents. */
  readonly mounts: readonly Mount[];
  /** The same as overlay directories, where the snapshotter has them: the layer may be unpacked without mounting. */
  readonly overlay: OverlayLayout | undefined;
  /** The snapshot stands on nothing yet; it will get its parents later. Overlay directories only. */
  readonly ahead?: boolean;
}

export interface SettleInput {
  /** Of a snapshot that a layer was unpacked into ahead, with the parents that it gets now. */
  readonly overlay: OverlayLayout;
  readonly unsettled: Unsettled;
}

export interface DiffInput {
  /** The tree below; undefined for an empty one. */
  readonly lower: readonly Mount[] | undefined;
  readonly upper: readonly Mount[] | undefined;
  /** Set when upper stands directly on lower: its own directory is the difference. */
  readonly overlay: OverlayLayout | undefined;
  /** The file to write, on the store's file system. */
  readonly output: string;
  readonly form: BlobForm;
}

export interface ConvertInput {
  readonly blob: string;
  readonly mediaType: string;
  readonly output: string;
  readonly form: BlobForm;
}

/** A committed snapshot. */
export interface TreeView {
  readonly mounts: readonly Mount[];
  readonly overlay: OverlayLayout | undefined;
}

export interface MergeInput {
  /** The new snapshot, writable; its parents as overlay directories, where the snapshotter has them. */
  readonly target: TreeView;
  /** Applied in this order. An undefined side is the empty tree. */
  readonly diffs: readonly { readonly lower: TreeView | undefined; readonly upper: TreeView | undefined }[];
}

export interface LayerJobOptions {
  readonly signal: AbortSignal;
}

/** Heavy work on layers, done in worker threads. All arguments are plain data. An abort stops the work. */
export interface LayerJobs {
  /** A layer will be unpacked as soon as its bytes are here. */
  warm?(): void;
  /**
   * Unpacks a layer; gives the digest of the tar and, of one that was unpacked ahead, what is left to settle. Of
   * `tooMuch` to be kept, it was given up.
   */
  apply(
    input: ApplyInput,
    options: LayerJobOptions,
  ): Promise<{ diffId: Digest; unsettled?: Unsettled; tooMuch?: boolean }>;
  /** Ends what `apply` has begun ahead. */
  settle(input: SettleInput, options: LayerJobOptions): Promise<void>;
  /** Writes the layer that leads from lower to upper. */
  diff(input: DiffInput, options: LayerJobOptions): Promise<BlobFile>;
  /** Writes a layer in another form. */
  convert(input: ConvertInput, options: LayerJobOptions): Promise<BlobFile>;
  /** Applies differences of trees to one; gives the space that it takes for itself. */
  merge(input: MergeInput, options: LayerJobOptions): Promise<SnapshotUsage>;
}
