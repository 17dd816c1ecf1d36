import type { Digest } from '../base/digest.ts';
import { withDigestCheck } from './verify.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import {
  formatReference,
  type ImageReference,
  parseReference,
  referenceHost,
  referencePath,
  withDefaultTag,
} from '../oci/reference.ts';
import type { ProxyConfig, RegistryConfig } from '../registry/config.ts';
import { anonymous, type Credentials } from '../registry/credentials.ts';
import { Registry } from '../registry/registry.ts';
import type { RegistryContext } from '../registry/session.ts';
import type { CallOptions, ImageLocation, OpenBlob, WriteResult } from './location.ts';

/** A name and its secret. With a name of '' the secret is a refresh (identity) token. */
export interface Login {
  readonly username: string;
  readonly secret: string;
}

/** Asked for each registry server that wants to know who is there, and again when what it said is refused. */
export type LoginProvider = (host: string) => Promise<Login | undefined> | Login | undefined;

/** How a client reaches registries. */
export interface RegistryClientOptions {
  /** Nobody is logged in when absent. `dockerLogins()` knows what `docker login` knows. */
  readonly login?: LoginProvider;
  /** By host: mirrors, plain HTTP, certificates. Hosts on this machine speak plain HTTP unless told otherwise. */
  readonly registries?: Readonly<Record<string, RegistryConfig>>;
  readonly proxy?: ProxyConfig;
  /** Default `buildkit-ts`. */
  readonly userAgent?: string;
  /** Transfers at a time with one registry; default 4. */
  readonly maxConnections?: number;
  /** Told of failures that are tried again, one line each. */
  readonly log?: (line: string) => void;
}

/**
 * Images in registries. Requests that fail for a while are tried again, broken transfers go on where they stopped,
 * tokens are renewed. Close it when it is no longer needed: it keeps connections.
 */
export class RegistryClient {
  readonly #registry: Registry;
  readonly #credentials: Credentials;
  readonly #log: ((line: string) => void) | undefined;

  constructor(options: RegistryClientOptions = {}) {
    const { login, registries = {}, proxy, userAgent = 'buildkit-ts', maxConnections, log } = options;
    this.#registry = new Registry({
      registries,
      userAgent,
      ...(proxy ? { proxy } : {}),
      ...(maxConnections === undefined ? {} : { maxConnections }),
    });
    this.#credentials = login ? credentialsOf(login) : anonymous;
    this.#log = log;
  }

  /** The image of that name, `alpine` or `ghcr.io/org/app:1@sha256:…`. @throws for what is no name */
  image(reference: string): ImageLocation {
    const parsed = withDefaultTag(parseReference(reference));
    const context = ({ signal }: CallOptions = {}): RegistryContext => ({
      credentials: this.#credentials,
      signal: signal ?? new AbortController().signal,
      ...(this.#log ? { log: this.#log } : {}),
    });
    return new RegistryImage(this.#registry, parsed, context);
  }

  /** Manifests of the image's repository that have `digest` as their subject. */
  async referrers(
    reference: string,
    digest: Digest,
    { signal }: CallOptions = {},
  ): Promise<readonly Descriptor[]> {
    return await this.#registry.referrers(parseReference(reference), digest, {
      credentials: this.#credentials,
      signal: signal ?? new AbortController().signal,
    });
  }

  /** Ends idle connections; transfers must be over. */
  async close(): Promise<void> {
    await this.#registry.close();
  }
}

class RegistryImage implements ImageLocation {
  readonly name: string;
  readonly repository: { readonly host: string; readonly path: string };
  readonly #registry: Registry;
  readonly #reference: ImageReference;
  readonly #context: (options?: CallOptions) => RegistryContext;

  constructor(
    registry: Registry,
    reference: ImageReference,
    context: (options?: CallOptions) => RegistryContext,
  ) {
    this.name = formatReference(reference);
    this.repository = { host: referenceHost(reference), path: referencePath(reference) };
    this.#registry = registry;
    this.#reference = reference;
    this.#context = context;
  }

  async resolve(options?: CallOptions): Promise<Descriptor> {
    return await this.#registry.resolve(this.#reference, this.#context(options));
  }

  read(
    descriptor: Descriptor,
    options: CallOptions & { readonly offset?: number } = {},
  ): AsyncIterable<Uint8Array> {
    const offset = options.offset ?? 0;
    const content = this.#registry.fetch(this.#reference, descriptor, offset, this.#context(options));
    return offset === 0 ? withDigestCheck(content, descriptor) : content;
  }

  async readAll(
    descriptor: Descriptor,
    options: CallOptions & { readonly maxBytes?: number } = {},
  ): Promise<Uint8Array> {
    const context = this.#context(options);
    return await this.#registry.fetchAll(this.#reference, descriptor, context, options.maxBytes);
  }

  async write(descriptor: Descriptor, open: OpenBlob, options?: CallOptions): Promise<WriteResult> {
    const { name } = this.#reference;
    return await this.#registry.push({ name }, descriptor, open, this.#context(options));
  }

  async publish(root: Descriptor, data: Uint8Array, options?: CallOptions): Promise<void> {
    const named = { ...this.#reference, digest: root.digest };
    const open = async function* (offset: number): AsyncGenerator<Uint8Array> {
      yield data.subarray(offset);
    };
    await this.#registry.push(named, root, open, this.#context(options));
  }

  async holds(root: Digest, options?: CallOptions): Promise<boolean> {
    const held = await this.#registry.held(this.#reference, { root, blobs: 0 }, this.#context(options));
    return held.isAt(root);
  }
}

function credentialsOf(login: LoginProvider): Credentials {
  return {
    ...anonymous,
    sessions: () => ['client'],
    credentials: async (host) => {
      const { username, secret } = (await login(host)) ?? { username: '', secret: '' };
      return { sessionId: 'client', username, secret };
    },
  };
}
