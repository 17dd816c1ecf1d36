import { type Digest, digestOf } from '../base/digest.ts';
import { MAX_MANIFEST_BYTES, parseManifest } from '../oci/manifest.ts';
import {
  mediaTypeDockerList,
  mediaTypeDockerManifest,
  mediaTypeOciIndex,
  mediaTypeOciManifest,
} from '../oci/media-types.ts';

import type { RegistryHost } from './config.ts';
import { StatusError } from './errors.ts';
import type { RepositorySession } from './session.ts';

const ACCEPT = [mediaTypeOciManifest, mediaTypeOciIndex, mediaTypeDockerManifest, mediaTypeDockerList].join();

/** With fewer blobs, to ask for each costs no more. */
const MIN_BLOBS = 3;

/** What is known to be in a repository, since a manifest there names it. */
export class Held {
  readonly #root: Digest | undefined;
  readonly #named: ReadonlySet<Digest>;

  /** `root`: of the manifest that the reference names. */
  constructor(root?: Digest, named: Iterable<Digest> = []) {
    this.#root = root;
    this.#named = new Set(named);
  }

  /** The reference names this manifest, which is there with all that belongs to it. */
  isAt(root: Digest): boolean {
    return this.#root === root;
  }

  get isEmpty(): boolean {
    return this.#named.size === 0;
  }

  has(digest: Digest): boolean {
    return this.#named.has(digest);
  }
}

/** What a push is going to bring. */
export interface Wanted {
  readonly root: Digest;
  /** Blobs that would be asked for one by one. */
  readonly blobs: number;
}

/**
 * A request or two that save a push one for each blob: what the reference names now, by tag or else digest. Nothing,
 * when it names nothing or does not say so well: the push finds out in its own way then.
 */
export async function findHeld(
  session: RepositorySession,
  host: RegistryHost,
  wanted: Wanted,
): Promise<Held> {
  const { tag, digest } = session.reference;
  const request = {
    path: `manifests/${tag ?? digest ?? wanted.root}`,
    headers: { accept: ACCEPT },
    lastHost: true,
  } as const;
  try {
    // HEAD first: docker.io counts a GET as a pull.
    const head = await session.request(host, { ...request, method: 'HEAD' });
    await head.discard();
    if (head.status !== 200) return new Held();
    if (head.header('docker-content-digest') === wanted.root) return new Held(wanted.root);
    if (wanted.blobs < MIN_BLOBS) return new Held();
    const response = await session.request(host, { ...request, method: 'GET' });
    if (response.status === 200) return readHeld(await response.bytes(MAX_MANIFEST_BYTES + 1));
    await response.discard();
  } catch {
    session.context.signal.throwIfAborted(); // whatever else it is, the push will tell
  }
  return new Held();
}

function readHeld(data: Uint8Array): Held {
  const parsed = parseManifest(data);
  const named = parsed.kind === 'index' ? parsed.manifests : [parsed.config, ...parsed.layers];
  return new Held(
    digestOf(data),
    named.map((one) => one.digest),
  );
}

/** A registry refused a manifest, as it does when something is missing that the manifest names. */
export function isManifestRefused(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause)
    if (at instanceof StatusError) return at.status === 400 || at.status === 404;
  return false;
}
