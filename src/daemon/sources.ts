import { BuildError, Code, invalidArgument } from '../base/errors.ts';
import type { ContentIndexes } from '../cache/content-indexes.ts';
import type { RefManager } from '../cache/ref.ts';
import type { MountLocally } from '../frontend/tree.ts';
import type { SourceOp } from '../llb/ops.ts';
import { httpKey, imageConfigKey, imageManifestKey } from '../source/keys.ts';
import type { Platform } from '../oci/platform.ts';
import type { HttpClient } from '../registry/http.ts';
import type { Registry } from '../registry/registry.ts';
import type { SessionManager } from '../session/manager.ts';
import { HttpSource, type HttpSourceServices } from '../source/http.ts';
import { HttpMemo } from '../source/http-memo.ts';
import { httpSourceSpec } from '../source/http-spec.ts';
import { ImageMemo, ImageResolver } from '../source/image-resolver.ts';
import { imageSourceSpec } from '../source/image-spec.ts';
import { ImageSource, type ImageSourceServices } from '../source/image.ts';
import { LocalSource, type LocalSourceServices, parseLocalSource } from '../source/local.ts';
import type { SourceInstance } from '../source/source.ts';
import type { Store } from '../store/store.ts';
import { SessionCredentials } from './session-credentials.ts';
import type { SessionServices } from './session-services.ts';

/** Where trees come from. */
export interface Sources {
  readonly credentials: SessionCredentials;
  readonly images: ImageResolver;
  readonly http: HttpSourceServices;
  readonly resolve: (op: SourceOp, platform: Platform) => SourceInstance;
  /** What the builds of these sessions have resolved (FEATURES E29). */
  imageMemo(sessions: readonly string[]): ImageMemo | undefined;
  /** Starts remembering for a build what it resolves and downloads, until disposed. */
  remember(sessions: readonly string[]): AsyncDisposable;
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
}

export function openSources(parts: SourceParts): Sources {
  const { store, refs, registry, http, clients, mountLocally } = parts;
  const credentials = new SessionCredentials(parts.sessions);
  const images = new ImageResolver({ registry, content: store.content, leases: store.leases });
  const memos = new BuildMemos();
  const httpServices: HttpSourceServices = {
    http,
    refs,
    mountLocally,
    key: httpKey,
    secret: (id, context) => clients.secrets(context.sessions)(id, context.signal),
    upload: (url, context) => clients.upload(url, context.sessions, context.signal),
    memo: (ids) => memos.find(ids)?.http,
  };
  const resolve = sourceResolver({
    image: {
      registry,
      resolver: images,
      refs,
      leases: store.leases,
      content: store.content,
      keys: imageKeys,
      credentials: (ids) => credentials.of(ids),
      memo: (ids) => memos.find(ids)?.images,
    },
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
    http: httpServices,
    resolve,
    imageMemo: (ids) => memos.find(ids)?.images,
    remember: (ids) => memos.start(ids),
  };
}

interface BuildMemo {
  readonly images: ImageMemo;
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
    const memo: BuildMemo = { images: new ImageMemo(), http: new HttpMemo() };
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

function sourceResolver(services: {
  image: ImageSourceServices;
  http: HttpSourceServices;
  local: LocalSourceServices;
}) {
  return (op: { identifier: string; attrs: Record<string, string> }, platform: Platform): SourceInstance => {
    const at = op.identifier.indexOf('://');
    if (at < 0) throw invalidArgument(`failed to parse source identifier ${op.identifier}`);
    const scheme = op.identifier.slice(0, at);
    const rest = op.identifier.slice(at + 3);
    switch (scheme) {
      case 'docker-image':
        return new ImageSource(imageSourceSpec(rest, op.attrs, platform), services.image);
      case 'local':
        return new LocalSource(parseLocalSource(rest, op.attrs), services.local);
      case 'http':
      case 'https':
        return new HttpSource(httpSourceSpec(op.identifier, op.attrs), services.http);
      case 'git':
      case 'oci-layout':
      case 'docker-image+blob':
      case 'oci-layout+blob':
        throw new BuildError(`${scheme} sources are not supported yet`, { code: Code.unimplemented });
      default:
        throw invalidArgument(`unknown source scheme: ${scheme}`);
    }
  };
}
