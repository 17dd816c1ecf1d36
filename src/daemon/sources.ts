import { mkdirSync } from 'node:fs';
import { hasWritableCheckouts } from '../base/compatibility.ts';
import { invalidArgument } from '../base/errors.ts';
import { KeyedLock } from '../base/keyed-lock.ts';
import type { ContentIndexes } from '../cache/content-indexes.ts';
import type { RefManager } from '../cache/ref.ts';
import type { MountLocally } from '../frontend/tree.ts';
import type { SourceOp } from '../llb/ops.ts';
import type { VertexSpec } from '../llb/parse.ts';
import { blobKey, httpKey, imageConfigKey, imageManifestKey } from '../source/keys.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { ObjectReference } from '../oci/object-reference.ts';
import { type ImageReference, parseReference } from '../oci/reference.ts';
import { OWNER_VARIABLE } from '../sys/left-processes.ts';
import type { ProxyConfig } from '../registry/config.ts';
import type { HttpClient } from '../registry/http.ts';
import type { Registry } from '../registry/registry.ts';
import type { SessionManager } from '../session/manager.ts';
import type { OpContext } from '../solver/types.ts';
import { BlobSource, type BlobSpec, blobSpec, type BlobSourceServices } from '../source/blob.ts';
import { GitSource } from '../source/git.ts';
import type { GitSourceServices } from '../source/git-access.ts';
import type { GitFound } from '../source/git-spec.ts';
import { gitSourceSpec } from '../source/git-spec.ts';
import { HttpSource, type HttpSourceServices } from '../source/http.ts';
import { HttpMemo } from '../source/http-memo.ts';
import { httpSourceSpec } from '../source/http-spec.ts';
import { ResolveMemo } from '../source/memo.ts';
import { type ImageOrigin, registryOrigin } from '../source/image-origin.ts';
import { ImageResolver } from '../source/image-resolver.ts';
import { imageSourceSpec } from '../source/image-spec.ts';
import { ImageSource, type ImageSourceServices } from '../source/image.ts';
import { LocalSource, type LocalSourceServices, parseLocalSource } from '../source/local.ts';
import { layoutOrigin, ociLayoutSpec, readLayoutBlob, type LayoutPlace } from '../source/oci-layout.ts';
import type { SourceInstance } from '../source/source.ts';
import type { Store } from '../store/store.ts';
import { SessionCredentials } from './session-credentials.ts';
import type { SessionServices } from './session-services.ts';

/** Where trees come from. */
export interface Sources {
  readonly credentials: SessionCredentials;
  readonly images: ImageResolver;
  readonly origins: ImageOrigins;
  readonly http: HttpSourceServices;
  readonly git: GitSourceServices;
  readonly resolve: (op: SourceOp, vertex: Pick<VertexSpec, 'platform' | 'version'>) => SourceInstance;
  /** Starts remembering for a build what it resolves and downloads, until disposed. */
  remember(sessions: readonly string[]): AsyncDisposable;
}

/** Where images come from, on behalf of sessions that are asked for anew each time. */
export interface ImageOrigins {
  registry(
    reference: ImageReference,
    sessions: () => readonly string[],
    log?: (line: string) => void,
  ): ImageOrigin;
  layout(reference: ObjectReference, place: LayoutPlace, sessions: () => readonly string[]): ImageOrigin;
}

export interface SourceParts {
  readonly store: Store;
  readonly refs: RefManager;
  readonly registry: Registry;
  readonly http: HttpClient;
  readonly sessions: SessionManager;
  readonly clients: SessionServices;
  readonly mountLocally: MountLocally;
  readonly contentIndexes: ContentIndexes;
  /** Where git runs. */
  readonly git: {
    readonly proxy: ProxyConfig;
    readonly searchPath: string;
    readonly tmpDir: string;
    /** By which what git leaves running is known to the next daemon. */
    readonly owner: string;
  };
}

export function openSources(parts: SourceParts): Sources {
  const { store, refs, registry, http, clients, mountLocally } = parts;
  const credentials = new SessionCredentials(parts.sessions);
  const images = new ImageResolver({ content: store.content, leases: store.leases });
  const memos = new BuildMemos();
  const origins: ImageOrigins = {
    registry: (reference, sessions, log) =>
      registryOrigin(reference, {
        registry,
        credentials: credentials.of(sessions),
        memo: memos.find(sessions())?.images,
        ...(log ? { log } : {}),
      }),
    layout: (reference, place, sessions) => layoutOrigin(reference, clients.layout(place, sessions)),
  };
  const httpServices: HttpSourceServices = {
    http,
    refs,
    mountLocally,
    key: httpKey,
    secret: (id, context) => clients.secrets(context.sessions)(id, context.signal),
    upload: (url, context) => clients.upload(url, context.sessions, context.signal),
    memo: (ids) => memos.find(ids)?.http,
  };
  const openBlob = blobOpener(registry, credentials, clients);
  const git = gitServices(parts, openBlob, (ids) => memos.find(ids)?.git);
  const resolve = sourceResolver({
    origins,
    git,
    blob: { refs, mountLocally, key: blobKey, open: openBlob },
    image: { resolver: images, refs, leases: store.leases, content: store.content, keys: imageKeys },
    http: httpServices,
    local: {
      refs,
      mountLocally,
      contentIndexes: parts.contentIndexes,
      withSession: clients.withLocalSession,
    },
  });
  return {
    credentials,
    images,
    origins,
    http: httpServices,
    git,
    resolve,
    remember: (ids) => memos.start(ids),
  };
}

function gitServices(
  { refs, mountLocally, clients, git }: SourceParts,
  openBlob: OpenBlob,
  memo: NonNullable<GitSourceServices['memo']>,
): GitSourceServices {
  mkdirSync(git.tmpDir, { recursive: true, mode: 0o700 });
  return {
    refs,
    mountLocally,
    secret: (id, context) => clients.secrets(context.sessions)(id, context.signal),
    ssh: clients.ssh,
    openBundle: ({ reference, digest, place }, context) =>
      openBlob({ reference: { text: reference }, digest, ...(place ? { place } : {}) }, context),
    locks: new KeyedLock(),
    searchPath: git.searchPath,
    tmpDir: git.tmpDir,
    env: { ...proxyEnvironment(git.proxy), [OWNER_VARIABLE]: git.owner },
    memo,
  };
}

function proxyEnvironment(proxy: ProxyConfig): Record<string, string> {
  const values = {
    http_proxy: proxy.httpProxy,
    https_proxy: proxy.httpsProxy,
    no_proxy: proxy.noProxy,
    all_proxy: proxy.allProxy,
  };
  const set = Object.entries(values).flatMap(([name, value]) => (value ? [[name, value] as const] : []));
  return Object.fromEntries(
    set.flatMap(([name, value]) => [
      [name, value],
      [name.toUpperCase(), value],
    ]),
  );
}

interface BuildMemo {
  readonly git: ResolveMemo<GitFound>;
  readonly images: ResolveMemo<Descriptor>;
  readonly http: HttpMemo;
}

/** Memos of running builds, by session. */
class BuildMemos {
  readonly #bySession = new Map<string, BuildMemo>();

  find(sessions: readonly string[]): BuildMemo | undefined {
    for (const id of sessions) {
      const memo = this.#bySession.get(id);
      if (memo) return memo;
    }
    return undefined;
  }

  start(sessions: readonly string[]): AsyncDisposable {
    const memo: BuildMemo = { images: new ResolveMemo(), http: new HttpMemo(), git: new ResolveMemo() };
    for (const id of sessions) this.#bySession.set(id, memo);
    return {
      [Symbol.asyncDispose]: async () => {
        for (const id of sessions) if (this.#bySession.get(id) === memo) this.#bySession.delete(id);
        await memo.http[Symbol.asyncDispose]();
      },
    };
  }
}

const imageKeys: ImageSourceServices['keys'] = {
  manifestKey: ({ digest, platform, layerLimit }) =>
    imageManifestKey({ digest, platform, ...(layerLimit === undefined ? {} : { layerLimit }) }),
  configKey: imageConfigKey,
};

type OpenBlob = (
  blob: Pick<BlobSpec, 'reference' | 'digest' | 'place'>,
  context: Pick<OpContext, 'sessions' | 'signal'>,
) => AsyncIterable<Uint8Array>;

/** Streams single blobs, from the repository or the layout that their source names. */
function blobOpener(registry: Registry, credentials: SessionCredentials, clients: SessionServices): OpenBlob {
  return async function* ({ reference, digest, place }, { sessions, signal }) {
    if (place) {
      const find = clients.layout(place, sessions);
      const { size } = await find(digest, signal);
      yield* readLayoutBlob(find, { digest, size }, 0, signal);
      return;
    }
    const named = parseReference(reference.text);
    const from = { credentials: credentials.of(sessions), signal };
    yield* registry.fetch(named, await registry.describeBlob(named, from), 0, from);
  };
}

function sourceResolver(services: {
  origins: ImageOrigins;
  blob: BlobSourceServices;
  image: ImageSourceServices;
  http: HttpSourceServices;
  git: GitSourceServices;
  local: LocalSourceServices;
}) {
  return (
    op: { identifier: string; attrs: Record<string, string> },
    { platform, version }: Pick<VertexSpec, 'platform' | 'version'>,
  ): SourceInstance => {
    const at = op.identifier.indexOf('://');
    if (at < 0) throw invalidArgument(`failed to parse ${op.identifier}: invalid`);
    const scheme = op.identifier.slice(0, at);
    const rest = op.identifier.slice(at + 3);
    switch (scheme) {
      case 'docker-image': {
        const spec = imageSourceSpec(rest, op.attrs, platform);
        const origin = ({ sessions, progress }: OpContext): ImageOrigin =>
          services.origins.registry(spec.reference, sessions, (line) => progress.log(2, Buffer.from(line)));
        return new ImageSource(spec, origin, services.image);
      }
      case 'oci-layout': {
        const spec = ociLayoutSpec(rest, op.attrs, platform);
        const origin = ({ sessions }: OpContext): ImageOrigin =>
          services.origins.layout(spec.reference, spec.place, sessions);
        return new ImageSource(spec, origin, services.image);
      }
      case 'local':
        return new LocalSource(parseLocalSource(rest, op.attrs), services.local);
      case 'http':
      case 'https':
        return new HttpSource(httpSourceSpec(op.identifier, op.attrs), services.http);
      case 'docker-image+blob':
      case 'oci-layout+blob':
        return new BlobSource(blobSpec(scheme, rest, op.attrs), services.blob);
      case 'git': {
        const spec = gitSourceSpec(rest, op.attrs, { writable: hasWritableCheckouts(version) });
        return new GitSource(spec, services.git);
      }
      default:
        throw invalidArgument(`unknown scheme ${scheme}: not found`);
    }
  };
}
