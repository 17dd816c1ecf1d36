import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { field, goJson, goStruct, optional } from '../base/gojson.ts';
import type { Platform } from '../oci/platform.ts';

export interface ImageKeyInput {
  /** Digest of the manifest that was chosen, or of the index if it was asked for by that. */
  readonly digest: Digest;
  readonly platform: Platform;
  readonly layerLimit?: number;
}

const imageJson = goStruct<ImageKeyInput>(
  field('Digest', (i) => i.digest),
  field('OS', (i) => i.platform.os),
  field('Arch', (i) => i.platform.architecture),
  optional('Variant', (i) => i.platform.variant ?? ''),
  optional('OSVersion', (i) => i.platform.osVersion ?? ''),
  optional('OSFeatures', (i) => i.platform.osFeatures ?? []),
);

/** First key of an image: its manifest and platform (FEATURES E10). */
export function imageManifestKey(input: ImageKeyInput): Digest {
  // A limit of 0 is written too, since only its absence counts as none.
  const limit = input.layerLimit === undefined ? {} : { Limit: input.layerLimit };
  return digestOf(goJson({ ...imageJson(input), ...limit }));
}

/**
 * Second key of an image: the chain of its layers, the same under another name. undefined when the image has
 * none, and the manifest key stands for it then.
 */
export function imageConfigKey(diffIds: readonly Digest[], layerLimit?: number): Digest | undefined {
  if (layerLimit !== undefined && diffIds.length < layerLimit) {
    throw new BuildError(`image has ${diffIds.length} layers, limit is ${layerLimit}`);
  }
  return chainId(layerLimit === undefined ? diffIds : diffIds.slice(0, layerLimit));
}

/** Name of layers on top of one another (image-spec config.md, ChainID). */
export function chainId(diffIds: readonly Digest[]): Digest | undefined {
  let chain: Digest | undefined;
  for (const diffId of diffIds) chain = chain === undefined ? diffId : digestOf(`${chain} ${diffId}`);
  return chain;
}

export interface HttpKeyInput {
  readonly filename: string;
  readonly perm: number;
  readonly uid: number;
  readonly gid: number;
  readonly checksum: Digest;
  readonly lastModified?: Date;
  readonly authHeaderSecret?: string;
  /** Sorted by name. */
  readonly header?: readonly { readonly name: string; readonly value: string }[];
}

const httpJson = goStruct<HttpKeyInput>(
  field('Filename', (h) => h.filename),
  field('Perm', (h) => h.perm),
  field('UID', (h) => h.uid),
  field('GID', (h) => h.gid),
  field('Checksum', (h) => h.checksum),
  optional('LastModTime', (h) => h.lastModified?.toUTCString() ?? ''),
  optional('AuthHeaderSecret', (h) => h.authHeaderSecret ?? ''),
  optional('Header', (h) => (h.header ?? []).map(({ name, value }) => ({ Name: name, Value: value }))),
);

/** Key of a downloaded file (FEATURES E12). */
export function httpKey(input: HttpKeyInput): Digest {
  return digestOf(goJson(httpJson(input)));
}

export interface BlobKeyInput {
  readonly digest: Digest;
  /** '' when the digest names the file. */
  readonly filename: string;
  readonly perm: number;
  readonly uid: number;
  readonly gid: number;
}

const blobJson = goStruct<BlobKeyInput>(
  field('Digest', (b) => b.digest),
  field('Filename', (b) => b.filename),
  field('Perm', (b) => b.perm),
  field('UID', (b) => b.uid),
  field('GID', (b) => b.gid),
);

/** Key of a single blob, the same wherever it comes from. */
export function blobKey(input: BlobKeyInput): Digest {
  return digestOf(goJson(blobJson(input)));
}

export interface LocalKeyInput {
  readonly name: string;
  readonly sessionId: string;
  /** undefined when the attribute is absent, which differs from an empty list. */
  readonly includePatterns?: readonly string[];
  readonly excludePatterns?: readonly string[];
  readonly followPaths?: readonly string[];
  readonly metadataOnly?: boolean;
  readonly metadataExceptions?: readonly string[];
}

const localJson = goStruct<LocalKeyInput>(
  field('SessionID', (l) => l.sessionId),
  field('IncludePatterns', (l) => l.includePatterns),
  field('ExcludePatterns', (l) => l.excludePatterns),
  field('FollowPaths', (l) => l.followPaths),
  optional('MetadataTransfer', (l) => l.metadataOnly ?? false),
  optional('MetadataExceptions', (l) => l.metadataExceptions ?? []),
);

/** Key of a client's folder, good for one session (FEATURES E13), and the digest that pins it. */
export function localKey(input: LocalKeyInput): { key: string; pin: Digest } {
  const pin = digestOf(goJson(localJson(input)));
  return { key: `session:${input.name}:${pin}`, pin };
}

export interface GitKeyInput {
  readonly sha: string;
  readonly ref: string;
  readonly keepGitDir: boolean;
  readonly subdir: string;
  readonly skipSubmodules: boolean;
  readonly mtime: string;
  readonly checkoutBundle: boolean;
  readonly writable?: boolean;
}

/** Key of a checkout (FEATURES E11); the ref counts only where it can be read from the Git folder. */
export function gitKey(input: GitKeyInput): string {
  const { sha, ref, keepGitDir, subdir, skipSubmodules, mtime, checkoutBundle, writable } = input;
  return [
    sha,
    keepGitDir ? '.git' : '',
    keepGitDir && ref !== '' ? `#${ref}` : '',
    subdir === '' ? '' : `:${subdir}`,
    skipSubmodules ? '(skip-submodules)' : '',
    mtime === 'checkout' ? '' : `(mtime=${mtime})`,
    checkoutBundle ? '(bundle)' : '',
    // Ours: BuildKit takes whichever of the two trees is there already.
    writable ? '(writable)' : '',
  ].join('');
}
