import type { Attestations } from '../attest/attestation.ts';
import type { CompatibilityVersion } from '../base/compatibility.ts';
import type { Compression, ImmutableRef } from '../cache/ref.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { TreeSource } from '../session/fsutil/source.ts';
import type { Credentials } from '../registry/credentials.ts';
import type { VertexProgress } from '../solver/types.ts';
import type { RefMounts } from '../cache/ref.ts';

/** The result of a build as exporters see it (FEATURES J26). The refs stay the caller's. */
export interface ExportSource {
  /** null is the empty tree. Ignored when `refs` is there. */
  readonly ref: ImmutableRef | null;
  readonly refs?: ReadonlyMap<string, ImmutableRef | null>;
  readonly metadata: ReadonlyMap<string, Uint8Array>;
  /** What is said of each platform's tree. */
  readonly attestations?: Attestations<ImmutableRef>;
}

export interface ExportContext {
  readonly signal: AbortSignal;
  /** Of the exporter's vertex. */
  readonly progress: VertexProgress;
  /** Which bytes images have; absent for the current ones. */
  readonly version?: CompatibilityVersion;
  /** Makes the build cache for the config of an image; absent when images carry none. */
  readonly inlineCache?: MakeInlineCache;
}

/** The cache of the image that is made of `ref` and has these layers; undefined when nothing of it can be used. */
export type MakeInlineCache = (
  ref: ImmutableRef,
  layers: readonly Descriptor[],
  compression: Compression,
  context: ExportContext,
) => Promise<Uint8Array | undefined>;

/** What an export gave. `release` ends the hold on its blobs; call it once, after `finalize`. */
export interface ExportResult {
  /** Keys of FEATURES J18. */
  readonly response: Readonly<Record<string, string>>;
  readonly descriptor?: Descriptor;
  /** Work that may run beside the cache export: pushing. */
  finalize?(context: ExportContext): Promise<void>;
  release(): void;
}

/** One output of a build. */
export interface Exporter {
  readonly type: string;
  /** Name of its vertex. */
  readonly name: string;
  readonly attrs: Readonly<Record<string, string>>;
  export(source: ExportSource, context: ExportContext): Promise<ExportResult>;
}

/** Where one exporter's files go: the client that asked for it. */
export interface ExportTarget {
  /** Opens the client's file. `metadata` travels with it. Not closing it before disposal cancels it. */
  openFile(options: {
    readonly metadata?: Readonly<Record<string, string>>;
    readonly signal: AbortSignal;
  }): Promise<FileSink>;
  /** Makes the client's directory hold the tree; `deleteOthers` removes everything else from it. */
  sendDirectory(
    tree: TreeSource,
    options: {
      readonly signal: AbortSignal;
      readonly onProgress: (bytes: number, done: boolean) => void;
      readonly deleteOthers: boolean;
    },
  ): Promise<void>;
  /** The client's content store for exported images. @throws when it offers none */
  contentStore(signal: AbortSignal): Promise<ContentSink>;
  /** Credentials of the client's sessions. */
  readonly credentials: Credentials;
}

/** @throws alreadyExists from `write` or `close` when the client wants to skip the file. */
export interface FileSink extends AsyncDisposable {
  write(chunk: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Takes blobs by digest. A blob that is there already is no error. */
export interface ContentSink {
  put(
    descriptor: Descriptor,
    data: AsyncIterable<Uint8Array>,
    options: { signal: AbortSignal },
  ): Promise<void>;
}

/** A tree mounted where this process can read it. */
export type MountTree = (mounts: RefMounts) => Promise<{ readonly path: string; release(): Promise<void> }>;

/** Shows `id` as a sub-status for as long as `work` takes. */
export async function oneOff<T>(progress: VertexProgress, id: string, work: () => Promise<T>): Promise<T> {
  progress.status(id, {});
  try {
    return await work();
  } finally {
    progress.status(id, { done: true });
  }
}
