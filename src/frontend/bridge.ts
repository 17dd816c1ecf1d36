import { BuildError, Code, invalidArgument, notFound } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Definition, SourceOp } from '../llb/ops.ts';
import type { Container, ContainerOptions } from '../ops/container.ts';
import type { Platform } from '../oci/platform.ts';
import type { Policy } from '../pb/sourcepolicy.ts';
import type { VertexWarning } from '../solver/types.ts';
import type { AttestationChain } from '../source/attestation-chain.ts';
import { RequestScope, type RequestStore } from './requests.ts';
import { type FrontendResult, LazyRef, refsOf, type SolvedTree } from './result.ts';
import type { MountLocally } from './tree.ts';

const DOCKERFILE = 'dockerfile.v0';

/** A cache from elsewhere (FEATURES K1). */
export interface CacheImport {
  readonly type: string;
  readonly attrs: Readonly<Record<string, string>>;
}

/** What a client or a frontend asks to be solved: a graph, or a frontend with options. */
export interface SolveRequest {
  readonly definition: Definition | undefined;
  readonly frontend: string;
  readonly frontendOpt: Readonly<Record<string, string>>;
  readonly frontendInputs: Readonly<Record<string, Definition>>;
  /** Caches that the steps of `definition` look into. A frontend finds its own among its options. */
  readonly cacheImports?: readonly CacheImport[];
  /** Below which the sources of `definition` are, beside those of the build. */
  readonly sourcePolicies?: readonly Policy[];
  /** Solve before answering, instead of when the result is first used. */
  readonly evaluate: boolean;
}

/** Turns options and inputs into trees, through the bridge. */
export type Frontend = (
  bridge: Bridge,
  request: SolveRequest,
  signal: AbortSignal,
) => Promise<FrontendResult<LazyRef>>;

export interface SourceMetaRequest {
  readonly source: SourceOp;
  readonly platform: Platform | undefined;
  readonly resolveMode: string;
  /** Name of the progress step; a default when ''. */
  readonly logName: string;
  /** Skip the image's config. */
  readonly noConfig: boolean;
  /** Look up what is said of the image too, with the statements of these predicate types themselves. */
  readonly attestations?: { readonly predicateTypes: readonly string[] };
  /** Give the commit and tag themselves. */
  readonly gitObjects?: boolean;
  /** Below which the source is, beside those of the build. */
  readonly sourcePolicies?: readonly Policy[];
  /** Hash the downloaded file with something behind it (FEATURES I12). */
  readonly httpChecksum?: HttpChecksumRequest;
}

export interface HttpChecksumRequest {
  readonly algorithm: 'sha256' | 'sha384' | 'sha512';
  readonly suffix: Uint8Array;
}

export interface SourceMeta {
  readonly source: SourceOp;
  readonly image?: {
    readonly digest: string;
    readonly config: Uint8Array;
    /** Answer to `attestations`; absent when nothing is said. */
    readonly chain?: AttestationChain;
  };
  readonly http?: {
    readonly checksum: string;
    readonly filename: string;
    readonly lastModified?: Date;
    /** Answer to `httpChecksum`. */
    readonly withSuffix?: { readonly digest: string; readonly suffix: Uint8Array };
  };
  readonly git?: {
    readonly ref: string;
    readonly checksum: string;
    readonly commitChecksum: string;
    readonly commitObject?: Uint8Array;
    readonly tagObject?: Uint8Array;
  };
}

/** What the failed steps of a build have left, for whoever drives it from outside (FEATURES E23). */
export interface Failures {
  /** From now on it is kept until the build ends. */
  keep(): void;
  /** The error of a step with how to get at its trees; any other as it is. */
  describe(error: unknown): BuildError;
  /** A tree of a failed step, still owned by it. @throws BuildError when it is no longer kept */
  tree(id: string): ImmutableRef | undefined;
}

/** The solver's side of a bridge. */
export interface BridgeServices {
  /** Checks and parses; what it gives solves the graph, for a ref that the caller owns. */
  readonly prepare: (
    definition: Definition,
    cacheImports: readonly CacheImport[],
    policies: readonly Policy[],
  ) => (signal: AbortSignal) => Promise<SolvedTree>;
  readonly resolveSourceMeta: (request: SourceMetaRequest, signal: AbortSignal) => Promise<SourceMeta>;
  readonly warn: (warning: VertexWarning) => void;
  readonly frontends: ReadonlyMap<string, Frontend>;
  readonly mountLocally: MountLocally;
  /** Seconds since 1970 of the newest file of an archive; undefined for what is none. */
  readonly newestFile: (path: string, signal: AbortSignal) => Promise<number | undefined>;
  readonly workerPlatforms: readonly Platform[];
  readonly openContainer: (options: ContainerOptions, signal: AbortSignal) => Promise<Container>;
  readonly failures: Failures;
  /** Requests that inputs of other requests came from. */
  readonly requests: RequestStore;
}

export interface BridgeOptions {
  readonly sessionId: string;
  readonly inputs: Readonly<Record<string, Definition>>;
  /** What the client asked the daemon for. */
  readonly root: SolveRequest;
}

/**
 * `gateway.v0` for the Dockerfile frontend that is inside the daemon is that frontend, unless the client put an
 * image in its place (FEATURES B10).
 */
export function withoutDetour(request: SolveRequest): SolveRequest {
  const { source, ...frontendOpt } = request.frontendOpt;
  if (request.frontend !== 'gateway.v0' || source !== DOCKERFILE) return request;
  const key = `context:${DOCKERFILE}`;
  const replaced = Object.keys(frontendOpt).some((name) => name === key || name.startsWith(`${key}::`));
  return replaced ? request : { ...request, frontend: DOCKERFILE, frontendOpt };
}

/** The face of a running build that frontends see (FEATURES I7-I14), inside the daemon or over the wire. */
export class Bridge {
  readonly sessionId: string;
  readonly inputs: Readonly<Record<string, Definition>>;
  readonly #services: BridgeServices;
  /** What was asked through this bridge, for provenance. */
  readonly scope: RequestScope;
  readonly #refs: Map<string, LazyRef>;

  constructor(services: BridgeServices, options: BridgeOptions, parent?: Bridge) {
    this.#services = services;
    this.sessionId = options.sessionId;
    this.inputs = options.inputs;
    this.scope = parent
      ? parent.scope.nested(options.root)
      : new RequestScope(services.requests, undefined, options.root);
    this.#refs = parent ? parent.#refs : new Map();
  }

  get workerPlatforms(): readonly Platform[] {
    return this.#services.workerPlatforms;
  }

  get newestFile(): BridgeServices['newestFile'] {
    return this.#services.newestFile;
  }

  get mountLocally(): MountLocally {
    return this.#services.mountLocally;
  }

  get openContainer(): BridgeServices['openContainer'] {
    return this.#services.openContainer;
  }

  async solve(request: SolveRequest, signal: AbortSignal): Promise<FrontendResult<LazyRef>> {
    if (request.definition && request.definition.def.length > 0 && request.frontend !== '') {
      throw invalidArgument('cannot solve with both Definition and Frontend specified');
    }
    const result = await this.#solveAny(request, signal);
    for (const ref of refsOf(result)) this.#refs.set(ref.id, ref);
    if (request.evaluate) await Promise.all(refsOf(result).map((ref) => ref.result(signal)));
    for (const ref of refsOf(result)) this.scope.register(ref);
    return result;
  }

  /** A ref that this bridge gave out. */
  ref(id: string): LazyRef {
    const ref = this.#refs.get(id);
    if (!ref) throw notFound(`return reference ${id} not found`);
    return ref;
  }

  /** What a ref of this bridge shows, solved, or a tree of a failed step; still owned by it. */
  async tree(id: string, signal: AbortSignal): Promise<ImmutableRef | null> {
    return this.failures.tree(id) ?? this.ref(id).result(signal);
  }

  get failures(): Failures {
    return this.#services.failures;
  }

  async resolveSourceMeta(request: SourceMetaRequest, signal: AbortSignal): Promise<SourceMeta> {
    const meta = await this.#services.resolveSourceMeta(request, signal);
    if (meta.image) this.scope.addImage(meta.source.identifier, request.platform, meta.image.digest);
    return meta;
  }

  warn(warning: VertexWarning): void {
    this.#services.warn(warning);
  }

  async release(): Promise<void> {
    this.scope.release();
    const refs = [...this.#refs.values()];
    this.#refs.clear();
    await Promise.all(refs.map((ref) => ref.release()));
  }

  async #solveAny(asked: SolveRequest, signal: AbortSignal): Promise<FrontendResult<LazyRef>> {
    const request = withoutDetour(asked);
    if (request.definition && request.definition.def.length > 0) {
      const { definition, cacheImports = [], sourcePolicies = [] } = request;
      const ref = this.#lazy(definition, this.#services.prepare(definition, cacheImports, sourcePolicies));
      return this.scope.add({ ref, metadata: new Map() });
    }
    if (request.frontend === '') return { ref: null, metadata: new Map() };
    const frontend = this.#services.frontends.get(request.frontend);
    if (!frontend) {
      throw new BuildError(`invalid frontend: ${request.frontend}`, {
        ...(request.frontend === 'gateway.v0' ? { code: Code.unimplemented } : {}),
        hint: `this daemon has: ${[...this.#services.frontends.keys()].join(', ')}`,
      });
    }
    try {
      const { sessionId } = this;
      const inputs = request.frontendInputs; // its own: what the asking frontend was given stays there
      const nested = new Bridge(this.#services, { sessionId, inputs, root: request }, this);
      return this.scope.adopt(nested.scope, await frontend(nested, request, signal));
    } catch (error) {
      const { source } = request.frontendOpt;
      const value = { name: request.frontend, ...(source ? { source } : {}) };
      throw BuildError.from(error).with({ type: 'errdefs.Frontend', value });
    }
  }

  #lazy(definition: Definition, solve: ReturnType<BridgeServices['prepare']>): LazyRef {
    const ref = new LazyRef(definition, solve);
    this.#refs.set(ref.id, ref);
    return ref;
  }
}
