import { createHash } from 'node:crypto';
import type { ImageResolver } from 'buildkit-ts/dockerfile';

/** Of a manifest or config. */
const MAX_BYTES = 4 << 20;
const TIMEOUT_MS = 30_000;
const MANIFESTS = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

interface Manifest {
  readonly config?: { readonly digest: string };
  readonly manifests?: readonly {
    readonly digest: string;
    readonly platform?: { readonly os: string; readonly architecture: string; readonly variant?: string };
  }[];
}

/** Asks the image's registry, as anybody may: without a user. Those on this machine are asked without TLS. */
export const fromRegistry: ImageResolver = async (reference, { platform, signal }) => {
  const repository = new Repository(reference, signal);
  const root = await repository.get('manifests', repository.version, MANIFESTS);
  const digest = `sha256:${createHash('sha256').update(root).digest('hex')}`;
  let manifest = JSON.parse(root.toString()) as Manifest;
  if (manifest.manifests) {
    const chosen = choose(manifest.manifests, platform);
    if (!chosen) throw new Error(`no match for platform in manifest: ${platform} not found`);
    manifest = JSON.parse((await repository.get('manifests', chosen, MANIFESTS)).toString()) as Manifest;
  }
  if (!manifest.config) throw new Error('the manifest names no config');
  return { digest, config: await repository.get('blobs', manifest.config.digest, '*/*') };
};

/** The digest of the first one that fits; an amd64 or arm64 that names no variant fits any. */
function choose(manifests: NonNullable<Manifest['manifests']>, wanted: string): string | undefined {
  const [os, architecture, variant = ''] = wanted.split('/');
  const fits = manifests.filter(
    ({ platform }) => platform?.os === os && platform?.architecture === architecture,
  );
  const exact = fits.find(({ platform }) => (platform?.variant ?? '') === variant);
  return (exact ?? fits.find(({ platform }) => !platform?.variant || variant === ''))?.digest;
}

class Repository {
  /** Tag or digest. */
  readonly version: string;
  readonly #address: string;
  readonly #signal: AbortSignal | undefined;
  #authorization: string | undefined;

  constructor(reference: string, signal: AbortSignal | undefined) {
    const match = /^([^/]+)\/([^@]+?)(?::([^:@/]+))?(?:@(.+))?$/.exec(reference);
    if (!match) throw new Error('not the reference of an image');
    const [, host = '', path = '', tag = 'latest', digest] = match;
    const scheme = /^(?:localhost|127\.0\.0\.1)(?::|$)/.test(host) ? 'http' : 'https';
    this.#address = `${scheme}://${host === 'docker.io' ? 'registry-1.docker.io' : host}/v2/${path}`;
    this.version = digest ?? tag;
    this.#signal = signal;
  }

  async get(kind: 'manifests' | 'blobs', name: string, accept: string): Promise<Buffer> {
    const address = `${this.#address}/${kind}/${name}`;
    let response = await this.#fetch(address, accept);
    if (response.status === 401 && this.#authorization === undefined) {
      this.#authorization = await this.#token(response.headers.get('www-authenticate') ?? '');
      response = await this.#fetch(address, accept);
    }
    const body = await bytesOf(response);
    if (!response.ok) throw new Error(`${address}: ${response.status} ${response.statusText}`);
    return body;
  }

  #fetch(address: string, accept: string): Promise<Response> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    return fetch(address, {
      headers: { accept, ...(this.#authorization ? { authorization: this.#authorization } : {}) },
      signal: this.#signal ? AbortSignal.any([this.#signal, timeout]) : timeout,
    });
  }

  /** Answers a challenge (RFC 6750) for everybody. */
  async #token(challenge: string): Promise<string> {
    const values = Object.fromEntries([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, k, v]) => [k, v]));
    if (!/^bearer /i.test(challenge) || !values.realm) throw new Error(`${this.#address}: needs a user`);
    const address = new URL(values.realm);
    for (const key of ['service', 'scope']) if (values[key]) address.searchParams.set(key, values[key]);
    const response = await this.#fetch(address.href, 'application/json');
    if (!response.ok) throw new Error(`${address.href}: ${response.status} ${response.statusText}`);
    const answer = JSON.parse((await bytesOf(response)).toString()) as {
      token?: string;
      access_token?: string;
    };
    return `Bearer ${answer.token ?? answer.access_token}`;
  }
}

async function bytesOf(response: Response): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body ?? []) {
    size += part.length;
    if (size > MAX_BYTES) throw new Error(`${response.url}: more than ${MAX_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}
