import type { SourceIdentifier } from '../gateway/types.ts';
import type { Platform } from '../oci/platform-type.ts';

/** A source that a build is about to use, and what is known of it. */
export interface SourceQuestion {
  /** `docker-image://…` in full, `git://…`, `https://…`, with its attributes. */
  readonly source: Required<SourceIdentifier>;
  /** That it is wanted for. */
  readonly platform: Platform | undefined;
  /** Answers to a `lookUp` that was the last decision; absent at first. */
  readonly image?: SourceImage;
  readonly git?: SourceCommit;
  readonly http?: SourceDownload;
  /** Aborts when the build ends. */
  readonly signal: AbortSignal;
}

/** An image that was looked up. */
export interface SourceImage {
  readonly digest: string;
  /** JSON; empty with `noConfig`. */
  readonly config: Uint8Array;
  /** With `attestations`: what is said of the image and who has signed it, all by digest. */
  readonly attestationChain?: SourceAttestations;
}

/** Manifests that say something of an image. '' for those that there are not. */
export interface SourceAttestations {
  readonly root: string;
  readonly imageManifest: string;
  readonly attestationManifest: string;
  readonly signatureManifests: readonly string[];
  /** The manifests, and the statements that were asked for. */
  readonly blobs: Readonly<Record<string, Uint8Array>>;
}

/** A commit that was looked up. */
export interface SourceCommit {
  readonly ref: string;
  readonly checksum: string;
  readonly commitChecksum: string;
  /** With `gitObjects`. */
  readonly commitObject?: Uint8Array;
  readonly tagObject?: Uint8Array;
}

/** A file of the web that was looked up. */
export interface SourceDownload {
  readonly digest: string;
  readonly filename: string;
  readonly lastModified: Date | undefined;
  /** With `httpChecksum`. */
  readonly checksum?: { readonly digest: string; readonly suffix: Uint8Array };
}

/** What is to be found out of a source before it is decided. */
export interface SourceLookUp {
  /** Default: that of the question. */
  readonly platform?: Platform;
  readonly resolveMode?: 'default' | 'pull' | 'local';
  /** Name of the step in the progress. */
  readonly logName?: string;
  /** Of an image: without its config. */
  readonly noConfig?: boolean;
  /** Of an image: what is said of it; with types of predicates, these statements too. */
  readonly attestations?: true | readonly string[];
  /** Of a repository: commit and tag as git has them. */
  readonly gitObjects?: boolean;
  /** Of a file: the digest of its bytes with `suffix` behind them. */
  readonly httpChecksum?: {
    readonly algorithm: 'sha256' | 'sha384' | 'sha512';
    readonly suffix?: Uint8Array;
  };
}

/**
 * Whether a source may be used: yes; no, perhaps with reasons for the user; another one in its place, about which is
 * asked then; or not before more is known of it.
 */
export type SourceDecision =
  | 'allow'
  | 'deny'
  | { readonly deny: readonly string[] }
  | { readonly convert: SourceIdentifier }
  | { readonly lookUp: SourceLookUp };
