import { BuildError } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { RegistryHost } from './config.ts';
import { isAuthorizationError, unexpectedStatus } from './errors.ts';
import type { HttpResponse } from './response.ts';
import type { PushSource } from './push.ts';
import type { RepositorySession } from './session.ts';

/** Where a registry takes the bytes of an upload; each answer may name another place. */
interface UploadTarget {
  readonly url: URL;
  /** Another server than the registry: it gets no credentials. */
  readonly elsewhere: boolean;
}

const BYTES = { 'content-type': 'application/octet-stream' };

/**
 * The upload of one blob, over all its tries: in one request (distribution-spec, Pushing a blob monolithically), and
 * after a break from where the registry has it (Pushing a blob in chunks), if the registry still knows of it.
 */
export class BlobUpload {
  readonly #session: RepositorySession;
  readonly #host: RegistryHost;
  readonly #descriptor: Descriptor;
  readonly #source: PushSource;
  /** Of the try before: it may have left something. */
  #broken: UploadTarget | undefined;

  constructor(session: RepositorySession, host: RegistryHost, descriptor: Descriptor, source: PushSource) {
    this.#session = session;
    this.#host = host;
    this.#descriptor = descriptor;
    this.#source = source;
  }

  /** Sends all of it to the place that `started` names. */
  async send(started: HttpResponse): Promise<void> {
    const target = uploadTarget(started);
    await started.discard();
    this.#broken = target;
    await this.#finish(target, 0);
  }

  /** Goes on with the try before. False: there is nothing to go on with. */
  async resume(): Promise<boolean> {
    const broken = this.#broken;
    this.#broken = undefined;
    if (!broken) return false;
    const left = await this.#left(broken);
    if (!left) return false;
    const { size } = this.#descriptor;
    const { at } = left;
    let { target } = left;
    this.#broken = target;
    if (at < size) {
      const headers = { ...BYTES, 'content-range': `${at}-${size - 1}` };
      const sent = await this.#request('PATCH', target, headers, at);
      if (sent.status === 404 || sent.status === 416) {
        await sent.discard();
        this.#broken = undefined;
        return false;
      }
      target = { ...target, ...uploadTarget(sent) };
      await expectStatus(sent, [202, 201, 204]);
    }
    await this.#finish(target, size);
    return true;
  }

  /** How far the registry is with it; undefined when it knows nothing of it, or has nothing. */
  async #left(target: UploadTarget): Promise<{ at: number; target: UploadTarget } | undefined> {
    const { url, elsewhere } = target;
    const request = { method: 'GET', path: '', url, noAuthorization: elsewhere, lastHost: true } as const;
    let response: HttpResponse;
    try {
      response = await this.#session.request(this.#host, request);
    } catch (error) {
      this.#session.context.signal.throwIfAborted();
      if (isAuthorizationError(error)) throw error;
      return undefined; // from the start then
    }
    const range = /^(?:bytes=)?0-(\d+)$/.exec(response.header('range') ?? '');
    await response.discard();
    // Of nothing some registries say 0-0, which may also be one byte: not worth going on with either way.
    const at = Number(range?.[1] ?? 0) + 1;
    if (response.status !== 204 || at <= 1 || at > this.#descriptor.size) return undefined;
    const moved = response.header('location') === undefined ? target : uploadTarget(response);
    return { at, target: moved };
  }

  async #finish({ url, elsewhere }: UploadTarget, offset: number): Promise<void> {
    const final = new URL(url);
    final.searchParams.append('digest', this.#descriptor.digest);
    await expectStatus(await this.#request('PUT', { url: final, elsewhere }, BYTES, offset), [200, 201, 204]);
  }

  #request(
    method: 'PUT' | 'PATCH',
    { url, elsewhere }: UploadTarget,
    headers: Readonly<Record<string, string>>,
    offset: number,
  ): Promise<HttpResponse> {
    const body = { size: this.#descriptor.size - offset, open: () => this.#source(offset) };
    return this.#session.request(this.#host, {
      method,
      path: '',
      url,
      headers,
      body,
      noAuthorization: elsewhere,
      lastHost: true,
    });
  }
}

export async function expectStatus(response: HttpResponse, wanted: readonly number[]): Promise<void> {
  if (!wanted.includes(response.status)) throw await unexpectedStatus(response);
  await response.discard();
}

function uploadTarget(response: HttpResponse): UploadTarget {
  const location = response.header('location') ?? '';
  // A host without scheme is one of the registry's scheme.
  const text =
    location.startsWith('/') || location.includes('://') ? location : `${response.url.protocol}//${location}`;
  if (!URL.canParse(text, response.url.href)) throw new BuildError(`unable to parse location ${location}`);
  const url = new URL(text, response.url);
  return { url, elsewhere: url.host !== response.url.host || url.protocol !== response.url.protocol };
}
