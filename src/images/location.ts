import type { Digest } from '../base/digest.ts';
import type { Descriptor } from '../oci/descriptor.ts';

/** What every call takes. Aborting ends the call and what it does. */
export interface CallOptions {
  readonly signal?: AbortSignal;
}

/** Gives the bytes of a blob from `offset` on; called again when a transfer is tried again. */
export type OpenBlob = (offset: number) => AsyncIterable<Uint8Array>;

/** How a blob came to its place: it was there, was taken over from another repository, or was sent. */
export type WriteResult = 'exists' | 'mounted' | 'uploaded';

/** An image by its name, in a registry or in a layout folder; it need not be there yet. */
export interface ImageLocation {
  /** For people: `docker.io/library/alpine:3.20`, `./layout:3.20`. */
  readonly name: string;
  /** The registry and repository that a push to the same registry may take blobs from. */
  readonly repository?: { readonly host: string; readonly path: string };
  /** The manifest or index that the name means. @throws Error with `isNotFound` when there is none */
  resolve(options?: CallOptions): Promise<Descriptor>;
  /** Bytes of a blob or manifest from `offset` on, size and (of the whole) digest checked. */
  read(
    descriptor: Descriptor,
    options?: CallOptions & { readonly offset?: number },
  ): AsyncIterable<Uint8Array>;
  /** A small blob or a manifest, size and digest checked. @throws when it is larger than 4 MiB, or `maxBytes` */
  readAll(
    descriptor: Descriptor,
    options?: CallOptions & { readonly maxBytes?: number },
  ): Promise<Uint8Array>;
  /**
   * Brings a blob or a manifest without a name here, unless it is here. `annotations` of the descriptor named
   * `containerd.io/distribution.source.<host>` say from which repositories of the same registry it may be taken over.
   */
  write(descriptor: Descriptor, open: OpenBlob, options?: CallOptions): Promise<WriteResult>;
  /** Brings the root manifest or index here and lets the name mean it; all below it must be here. */
  publish(root: Descriptor, data: Uint8Array, options?: CallOptions): Promise<void>;
  /** True when the name means this manifest already, which is then here with all that belongs to it. */
  holds(root: Digest, options?: CallOptions): Promise<boolean>;
}
