import { type Digest, digestAlgorithm } from '../base/digest.ts';
import { redactCredentials } from '../giturl/redact.ts';
import { compareBytes } from '../match/paths.ts';
import type { Platform } from '../oci/platform.ts';
import { formatReference, parseReference, withDefaultTag } from '../oci/reference.ts';

/** An image that a build used, by the name that it was asked for under. */
export interface ImageMaterial {
  readonly ref: string;
  readonly platform?: Platform | undefined;
  readonly digest: Digest;
  /** From a layout of the client, not from a registry. */
  readonly local: boolean;
}

export type BlobMaterial = Omit<ImageMaterial, 'platform'>;

export interface GitMaterial {
  /** With `#REF` when a ref was asked for. */
  readonly url: string;
  readonly commit: string;
  /** Locator of the bundle that stood in for the remote. */
  readonly bundle?: string;
}

export interface HttpMaterial {
  readonly url: string;
  readonly digest: Digest;
}

/** A secret or an agent that a step was lent. */
export interface Grant {
  readonly id: string;
  readonly optional: boolean;
}

const DEFAULT_SSH = 'default';

/** What the steps of one or several results have used (FEATURES E25). */
export class Capture {
  #images: ImageMaterial[] = [];
  readonly #blobs: BlobMaterial[] = [];
  readonly #git: GitMaterial[] = [];
  readonly #http: HttpMaterial[] = [];
  readonly #locals = new Set<string>();
  readonly #secrets = new Map<string, boolean>();
  readonly #ssh = new Map<string, boolean>();
  /** What steps have used, JSON values. */
  readonly usage = new Map<Digest, unknown>();
  /** A step could reach a network. */
  networkAccess = false;
  /** Something was used that the materials do not tell of. */
  incomplete = false;

  get images(): readonly ImageMaterial[] {
    return sorted(this.#images, (image) => image.ref);
  }

  get blobs(): readonly BlobMaterial[] {
    return sorted(this.#blobs, (blob) => blob.ref);
  }

  get git(): readonly GitMaterial[] {
    return sorted(this.#git, (git) => git.url);
  }

  get http(): readonly HttpMaterial[] {
    return sorted(this.#http, (http) => http.url);
  }

  /** Names of local folders. */
  get locals(): readonly string[] {
    return sorted([...this.#locals], (name) => name);
  }

  get secrets(): readonly Grant[] {
    return grants(this.#secrets);
  }

  get ssh(): readonly Grant[] {
    return grants(this.#ssh);
  }

  /** The first of several with the same name, origin and platform counts. */
  addImage(image: ImageMaterial): void {
    const known = this.#images.some(
      (other) =>
        other.ref === image.ref &&
        other.local === image.local &&
        platformKey(other.platform) === platformKey(image.platform),
    );
    if (!known) this.#images.push(image);
  }

  addBlob(blob: BlobMaterial): void {
    if (!this.#blobs.some(({ ref, local }) => ref === blob.ref && local === blob.local))
      this.#blobs.push(blob);
  }

  addGit({ url, ...rest }: GitMaterial): void {
    const git = { ...rest, url: redactCredentials(url) };
    if (!this.#git.some((other) => other.url === git.url && other.bundle === git.bundle)) this.#git.push(git);
  }

  addHttp({ url, digest }: HttpMaterial): void {
    const http = { url: redactCredentials(url), digest };
    if (!this.#http.some((other) => other.url === http.url)) this.#http.push(http);
  }

  addLocal(name: string): void {
    this.#locals.add(name);
  }

  /** Optional only as long as every use of it is. */
  addSecret({ id, optional }: Grant): void {
    this.#secrets.set(id, optional && (this.#secrets.get(id) ?? true));
  }

  addSsh({ id, optional }: Grant): void {
    const name = id || DEFAULT_SSH;
    this.#ssh.set(name, optional && (this.#ssh.get(name) ?? true));
  }

  merge(other: Capture): void {
    for (const image of other.#images) this.addImage(image);
    for (const blob of other.#blobs) this.addBlob(blob);
    for (const git of other.#git) this.addGit(git);
    for (const http of other.#http) this.addHttp(http);
    for (const name of other.#locals) this.addLocal(name);
    for (const secret of grants(other.#secrets)) this.addSecret(secret);
    for (const ssh of grants(other.#ssh)) this.addSsh(ssh);
    for (const [step, usage] of other.usage) this.usage.set(step, usage);
    this.networkAccess ||= other.networkAccess;
    this.incomplete ||= other.incomplete;
  }

  /** An image by its digest is not told when the same name and tag is there without one. */
  dropPinned(): void {
    const parsed = this.#images.map(({ ref }) => parseReference(ref));
    const plain = new Set(parsed.filter((ref) => ref.digest === undefined).map(nameAndTag));
    this.#images = this.#images.filter((_, i) => {
      const ref = parsed[i]!;
      return ref.digest === undefined || !plain.has(nameAndTag(ref));
    });
  }
}

function nameAndTag({ name, tag }: ReturnType<typeof parseReference>): string {
  return formatReference(withDefaultTag(tag === undefined ? { name } : { name, tag }));
}

/** Features do not tell images of one index apart. */
function platformKey(platform: Platform | undefined): string {
  if (!platform) return '';
  const { os, architecture, variant = '', osVersion = '' } = platform;
  return [os, architecture, variant, osVersion].join('/');
}

function sorted<T>(list: readonly T[], key: (of: T) => string): T[] {
  return list.toSorted((a, b) => compareBytes(key(a), key(b)));
}

function grants(of: ReadonlyMap<string, boolean>): Grant[] {
  return sorted(
    [...of].map(([id, optional]) => ({ id, optional })),
    ({ id }) => id,
  );
}

/** `{sha256: hex}` */
export function digestSet(digest: Digest): Readonly<Record<string, string>> {
  const algorithm = digestAlgorithm(digest);
  return { [algorithm]: digest.slice(algorithm.length + 1) };
}
