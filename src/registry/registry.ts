import { AsyncLocalStorage } from 'node:async_hooks';
import type { Digest } from '../base/digest.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type ImageReference, referenceHost } from '../oci/reference.ts';
import { AuthCache } from './auth.ts';
import { hostsOf, type ProxyConfig, type RegistryConfig, type RegistryHost } from './config.ts';
import { findHeld, type Held, type Wanted } from './held.ts';
import { HttpClient } from './http.ts';
import { fetchAll, fetchContent } from './pull.ts';
import { type PushSource, pushDescriptor } from './push.ts';
import { listReferrers } from './referrers.ts';
import { describeBlob, resolveReference } from './resolve.ts';
import { type RegistryContext, RepositorySession } from './session.ts';

/** Transfers at a time to one registry domain; those of `+json` content have one more place. */
export const DEFAULT_CONNECTIONS = 4;
const JSON_ALLOWANCE = 1;

export interface RegistryOptions {
  readonly registries: Readonly<Record<string, RegistryConfig>>;
  readonly proxy?: ProxyConfig;
  readonly userAgent: string;
  /** Default DEFAULT_CONNECTIONS. */
  readonly maxConnections?: number;
}

export interface CallOptions {
  /** Plain HTTP and unchecked certificates, whatever the configuration says (`registry.insecure`). */
  readonly insecure?: boolean | undefined;
}

/** Pulls from and pushes to registries. One per daemon: it holds connections, tokens and the limits. */
export class Registry {
  readonly #registries: Readonly<Record<string, RegistryConfig>>;
  readonly #http: HttpClient;
  readonly #auth = new AuthCache();
  readonly #limits = new Map<string, DomainLimit>();
  readonly #maxConnections: number;
  readonly #placed = new AsyncLocalStorage<true>();

  constructor(options: RegistryOptions) {
    this.#registries = options.registries;
    this.#maxConnections = options.maxConnections ?? DEFAULT_CONNECTIONS;
    this.#http = new HttpClient({
      userAgent: options.userAgent,
      ...(options.proxy ? { proxy: options.proxy } : {}),
    });
  }

  /**
   * What a tag or digest names: media type, digest and size of the manifest.
   * @throws notFound; `pull access denied, …`
   */
  resolve(
    reference: ImageReference,
    context: RegistryContext,
    { insecure }: CallOptions = {},
  ): Promise<Descriptor> {
    return resolveReference(this.#session(reference, false, context), this.#hosts(reference, insecure));
  }

  /** Size of the blob that the reference's digest names; its media type is '' unless it is a manifest. */
  describeBlob(reference: ImageReference, context: RegistryContext): Promise<Descriptor> {
    return describeBlob(this.#session(reference, false, context), this.#hosts(reference));
  }

  /** Manifests of the reference's repository that name `digest` as their subject. */
  referrers(
    reference: ImageReference,
    digest: Digest,
    context: RegistryContext,
  ): Promise<readonly Descriptor[]> {
    return listReferrers(this.#session(reference, false, context), this.#hosts(reference), digest);
  }

  /**
   * Bytes of a blob or manifest of the reference's repository from `offset` on. A connection that breaks is
   * replaced and the transfer goes on where it stopped. The size is checked, the digest is the reader's to check.
   */
  async *fetch(
    reference: ImageReference,
    descriptor: Descriptor,
    offset: number,
    context: RegistryContext,
    { insecure }: CallOptions = {},
  ): AsyncGenerator<Uint8Array, void> {
    using _place = await this.#place(reference, descriptor, context);
    const session = this.#session(reference, false, context);
    yield* fetchContent(session, this.#hosts(reference, insecure), descriptor, offset);
  }

  /** A small blob or a manifest, digest checked. Refuses more than `maxBytes`. */
  async fetchAll(
    reference: ImageReference,
    descriptor: Descriptor,
    context: RegistryContext,
    maxBytes?: number,
    options: CallOptions = {},
  ): Promise<Uint8Array> {
    return fetchAll(this.fetch(reference, descriptor, 0, context, options), descriptor, maxBytes);
  }

  /**
   * Brings one blob or manifest to the reference's repository, unless it is there. A manifest whose digest is
   * the reference's is put under the reference's tag.
   */
  async push(
    reference: ImageReference,
    descriptor: Descriptor,
    source: PushSource,
    context: RegistryContext,
    options: CallOptions = {},
  ): Promise<PushResult> {
    using _place = await this.#place(reference, descriptor, context);
    const host = this.#pushHost(reference, options);
    const session = this.#session(reference, true, context);
    return await this.#placed.run(true, () => pushDescriptor(session, host, descriptor, source));
  }

  /** What the repository is known to hold by what the reference names now: a push may leave that out. */
  async held(
    reference: ImageReference,
    wanted: Wanted,
    context: RegistryContext,
    options: CallOptions = {},
  ): Promise<Held> {
    const host = this.#pushHost(reference, options);
    return await findHeld(this.#session(reference, true, context), host, wanted);
  }

  /** Closes idle connections. */
  close(): Promise<void> {
    return this.#http.close();
  }

  #session(reference: ImageReference, push: boolean, context: RegistryContext): RepositorySession {
    return new RepositorySession(reference, push, context, this.#http, this.#auth);
  }

  #hosts(reference: ImageReference, insecure = false): readonly RegistryHost[] {
    const domain = referenceHost(reference);
    return hostsOf(domain, insecure ? { [domain]: { http: true, insecure: true } } : this.#registries);
  }

  #pushHost(reference: ImageReference, { insecure }: CallOptions): RegistryHost {
    return this.#hosts(reference, insecure).find((candidate) => candidate.canPush)!;
  }

  /** A push whose bytes come from a registry has its place already: a second one could wait for ever. */
  #place(reference: ImageReference, descriptor: Descriptor, context: RegistryContext): Promise<Disposable> {
    if (this.#placed.getStore()) return Promise.resolve(new DisposableStack());
    return this.#limit(reference).acquire(descriptor.mediaType, context.signal);
  }

  #limit(reference: ImageReference): DomainLimit {
    const domain = referenceHost(reference);
    let limit = this.#limits.get(domain);
    if (!limit) {
      limit = new DomainLimit(this.#maxConnections);
      this.#limits.set(domain, limit);
    }
    return limit;
  }
}

/** `exists`: it was there before; `mounted`: taken over from another repository. */
export type PushResult = 'exists' | 'mounted' | 'uploaded';

class DomainLimit {
  readonly #large: Semaphore;
  readonly #all: Semaphore;

  constructor(connections: number) {
    this.#large = new Semaphore(connections);
    this.#all = new Semaphore(connections + JSON_ALLOWANCE);
  }

  async acquire(mediaType: string, signal: AbortSignal): Promise<Disposable> {
    using stack = new DisposableStack();
    if (!mediaType.endsWith('+json')) stack.use(await this.#large.acquire(signal));
    stack.use(await this.#all.acquire(signal));
    return stack.move();
  }
}
