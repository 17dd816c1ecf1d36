import { BuildError, Code, invalidArgument } from '../base/errors.ts';
import { parseDigest } from '../base/digest.ts';
import type { Bridge, HttpChecksumRequest, SourceMeta, SourceMetaRequest } from '../frontend/bridge.ts';
import type { FrontendResult, LazyRef } from '../frontend/result.ts';
import { readDirIn, readFileIn, statFileIn, withTree } from '../frontend/tree.ts';
import { ENABLED_CAPS, ENABLED_GATEWAY_CAPS } from '../llb/caps.ts';
import type { SourceOp } from '../llb/ops.ts';
import { formatReference, parseReference } from '../oci/reference.ts';
import type * as pb from '../pb/gateway.ts';
import { LLBBridgeDefinition } from '../pb/gateway.ts';
import type { WorkerRecord } from '../pb/worker.ts';
import { errorOf } from '../rpc/status.ts';
import { type RegisteredService, service } from '../rpc/server.ts';
import type { ServerCall } from '../rpc/types.ts';
import type { Rootfs } from '../sys/rootfs.ts';
import { attestationsFromWire, attestationsToWire, chainToWire } from './attestation-wire.ts';
import type { BuildRegistry } from './build-registry.ts';
import { toApiCaps } from './caps.ts';
import { Containers } from './containers.ts';
import { serveProcesses } from './exec-process.ts';
import { finalResult } from './final-result.ts';
import { platformFromWire } from './platform-wire.ts';
import { timestampOfDate } from './time-wire.ts';
import { toldCode } from './told-code.ts';

const BUILD_ID_KEY = 'buildkit-controlapi-buildid';
/** `ResolverType` of images in layouts of the client (FEATURES I11). */
const LAYOUT_RESOLVER = 1;

type Outcome = { readonly result: FrontendResult<LazyRef> } | { readonly error: BuildError };

/** A build that is driven through the bridge, by its client or a frontend in a container, until a result is returned. */
export class GatewayBuild {
  readonly bridge: Bridge;
  readonly containers: Containers;
  readonly #outcome = Promise.withResolvers<FrontendResult<LazyRef>>();
  #returned: Outcome | undefined;

  constructor(bridge: Bridge) {
    this.bridge = bridge;
    this.containers = new Containers(bridge);
    bridge.failures.keep();
    this.#outcome.promise.catch(() => {}); // whoever waits for it hears of it
  }

  /** What the client returned. */
  get result(): Promise<FrontendResult<LazyRef>> {
    return this.#outcome.promise;
  }

  /** The same as far as it is known now. */
  get outcome(): Outcome | undefined {
    return this.#returned;
  }

  return(outcome: Outcome): void {
    if (this.#returned)
      throw new BuildError('gateway result is already set', { code: Code.failedPrecondition });
    this.#returned = outcome;
    if ('error' in outcome) this.#outcome.reject(outcome.error);
    else this.#outcome.resolve(outcome.result);
  }

  /** The result of a solve that was said to be the last; another such solve takes its place. */
  finish(result: FrontendResult<LazyRef>): void {
    this.#returned = { result };
    this.#outcome.resolve(result);
  }
}

/** LLBBridge on the daemon's own listeners: each call names its build in metadata (FEATURES B45, I19). */
export function gatewayService(
  builds: BuildRegistry<GatewayBuild>,
  workers: () => Promise<readonly WorkerRecord[]>,
): RegisteredService {
  return bridgeService(async (call) => {
    const id = call.metadata.get(BUILD_ID_KEY);
    if (!id) throw new BuildError('no buildid found in context');
    return builds.get(id, call.signal);
  }, workers);
}

/** LLBBridge, for the builds that `buildOf` finds. */
export function bridgeService(
  buildOf: (call: ServerCall) => Promise<GatewayBuild>,
  workers: () => Promise<readonly WorkerRecord[]>,
): RegisteredService {
  const inTree = async <T>(
    call: ServerCall,
    id: string,
    work: Parameters<typeof withTree<T>>[3],
  ): Promise<T> => {
    const { bridge } = await buildOf(call);
    const ref = id === '' ? null : await describing(bridge, () => bridge.ref(id).result(call.signal));
    return withTree(ref, bridge.mountLocally, call.signal, work);
  };
  return service(
    LLBBridgeDefinition,
    {
      ping: async (_request, call) => {
        await buildOf(call);
        return {
          FrontendAPICaps: toApiCaps(ENABLED_GATEWAY_CAPS),
          LLBCaps: toApiCaps(ENABLED_CAPS),
          Workers: [...(await workers())],
        };
      },
      inputs: async (_request, call) => ({ Definitions: { ...(await buildOf(call)).bridge.inputs } }),
      solve: async (request, call) => {
        const build = await buildOf(call);
        return describing(build.bridge, () => solve(build, request, call.signal));
      },
      evaluate: async (request, call) => {
        const { bridge } = await buildOf(call);
        await describing(bridge, () => bridge.ref(request.Ref).result(call.signal));
        return {};
      },
      return: async (request, call) => {
        const build = await buildOf(call);
        build.return(
          request.error
            ? { error: errorOf(request.error) }
            : { result: resultFromWire(build.bridge, request.result) },
        );
        return {};
      },
      readFile: (request, call) => inTree(call, request.Ref, (root) => readFile(root, request)),
      readDir: (request, call) => inTree(call, request.Ref, (root) => readDir(root, request)),
      statFile: (request, call) => inTree(call, request.Ref, (root) => statFile(root, request)),
      resolveImageConfig: async (request, call) =>
        resolveImageConfig(await buildOf(call), request, call.signal),
      resolveSourceMeta: async (request, call) =>
        resolveSourceMeta(await buildOf(call), request, call.signal),
      newContainer: async (request, call) => {
        const { bridge, containers } = await buildOf(call);
        await describing(bridge, () => containers.create(request, call.signal));
        return {};
      },
      releaseContainer: async (request, call) => {
        await (await buildOf(call)).containers.release(request.ContainerID);
        return {};
      },
      execProcess: async (stream, call) => {
        const { containers } = await buildOf(call);
        await serveProcesses(stream, (id) => containers.get(id));
      },
      readFileContainer: async (request, call) =>
        (await buildOf(call)).containers.inMount(request, (root) => readFile(root, request)),
      readDirContainer: async (request, call) =>
        (await buildOf(call)).containers.inMount(request, (root) => readDir(root, request)),
      statFileContainer: async (request, call) =>
        (await buildOf(call)).containers.inMount(request, (root) => statFile(root, request)),
      warn: async (request, call) => {
        warn((await buildOf(call)).bridge, request);
        return {};
      },
    },
    toldCode,
  );
}

/** Errors of steps say how to get at what these left. */
async function describing<T>({ failures }: Bridge, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw failures.describe(error);
  }
}

function readFile(root: Rootfs, { FilePath, Range }: pb.ReadFileRequest): pb.ReadFileResponse {
  const range = Range && { offset: Number(Range.Offset), length: Number(Range.Length) };
  return { Data: readFileIn(root, FilePath, range) };
}

function readDir(root: Rootfs, { DirPath, IncludePattern }: pb.ReadDirRequest): pb.ReadDirResponse {
  return { entries: readDirIn(root, DirPath, IncludePattern) };
}

function statFile(root: Rootfs, { Path }: pb.StatFileRequest): pb.StatFileResponse {
  return { stat: statFileIn(root, Path) };
}

async function solve(
  build: GatewayBuild,
  request: pb.SolveRequest,
  signal: AbortSignal,
): Promise<pb.SolveResponse> {
  const result = await build.bridge.solve(
    {
      definition: request.Definition,
      frontend: request.Frontend,
      frontendOpt: request.FrontendOpt,
      frontendInputs: request.FrontendInputs,
      cacheImports: request.CacheImports.map(({ Type, Attrs }) => ({ type: Type, attrs: Attrs })),
      evaluate: request.Evaluate,
      sourcePolicies: request.SourcePolicies,
    },
    signal,
  );
  if (result.refs && !request.allowResultReturn) throw new BuildError('solve did not return default result');
  if (request.Final) build.finish(finalResult(result, request.ExporterAttr));
  return {
    ref: request.allowResultReturn ? '' : (result.ref?.id ?? ''),
    result: resultToWire(result, request.allowResultArrayRef),
  };
}

function resultToWire(result: FrontendResult<LazyRef>, withDefinitions: boolean): pb.Result {
  const metadata = Object.fromEntries(result.metadata);
  const ref = (r: LazyRef | null): pb.Ref => ({ id: r?.id ?? '', def: r?.definition });
  const refs = [...(result.refs ?? [])];
  const ids = Object.fromEntries(refs.map(([key, r]) => [key, r?.id ?? '']));
  const wire = ((): pb.Result['result'] => {
    if (result.refs && withDefinitions) {
      return { $case: 'refs', value: { refs: Object.fromEntries(refs.map(([key, r]) => [key, ref(r)])) } };
    }
    if (result.refs) return { $case: 'refsDeprecated', value: { refs: ids } };
    if (withDefinitions) return { $case: 'ref', value: ref(result.ref) };
    return { $case: 'refDeprecated', value: result.ref?.id ?? '' };
  })();
  return { result: wire, metadata, attestations: attestationsToWire(result.attestations) };
}

function resultFromWire(bridge: Bridge, wire: pb.Result | undefined): FrontendResult<LazyRef> {
  if (!wire) throw invalidArgument('return without result or error');
  const metadata = new Map(Object.entries(wire.metadata));
  const ref = (id: string): LazyRef | null => (id === '' ? null : bridge.ref(id));
  const attestations = attestationsFromWire(wire.attestations, ref);
  return { ...treesFromWire(wire, ref), metadata, ...(attestations ? { attestations } : {}) };
}

function treesFromWire(
  wire: pb.Result,
  ref: (id: string) => LazyRef | null,
): Pick<FrontendResult<LazyRef>, 'ref' | 'refs'> {
  const map = (entries: readonly (readonly [string, string])[]): ReadonlyMap<string, LazyRef | null> =>
    new Map(entries.map(([key, id]) => [key, ref(id)]));
  switch (wire.result?.$case) {
    case undefined:
      return { ref: null };
    case 'refDeprecated':
      return { ref: ref(wire.result.value) };
    case 'ref':
      return { ref: ref(wire.result.value.id) };
    case 'refsDeprecated':
      return { ref: null, refs: map(Object.entries(wire.result.value.refs)) };
    case 'refs': {
      const entries = Object.entries(wire.result.value.refs).map(([key, r]) => [key, r.id] as const);
      return { ref: null, refs: map(entries) };
    }
    default:
      return wire.result satisfies never;
  }
}

async function resolveImageConfig(
  build: GatewayBuild,
  request: pb.ResolveImageConfigRequest,
  signal: AbortSignal,
): Promise<pb.ResolveImageConfigResponse> {
  const ref = formatReference(parseReference(request.Ref));
  const source = imageSourceOf(request, ref);
  const meta = await build.bridge
    .resolveSourceMeta(
      {
        source,
        platform: request.Platform && platformFromWire(request.Platform),
        resolveMode: request.ResolveMode,
        logName: request.LogName,
        noConfig: false,
        sourcePolicies: request.SourcePolicies,
      },
      signal,
    )
    .catch((error: unknown) => {
      throw BuildError.wrap(error, `failed to resolve source metadata for ${ref}`);
    });
  if (!meta.image) throw new BuildError(`no image config for ${request.Ref}`);
  return {
    Digest: meta.image.digest,
    Config: meta.image.config,
    Ref: imageRefOf(meta.source) ?? request.Ref,
  };
}

function imageSourceOf(request: pb.ResolveImageConfigRequest, ref: string): SourceOp {
  if (request.ResolverType !== LAYOUT_RESOLVER) return { identifier: `docker-image://${ref}`, attrs: {} };
  const attrs = {
    ...(request.SessionID === '' ? {} : { 'oci.session': request.SessionID }),
    ...(request.StoreID === '' ? {} : { 'oci.store': request.StoreID }),
  };
  return { identifier: `oci-layout://${ref}`, attrs };
}

function imageRefOf(source: SourceOp): string | undefined {
  return /^(?:docker-image|oci-layout):\/\/(.*)$/.exec(source.identifier)?.[1];
}

async function resolveSourceMeta(
  build: GatewayBuild,
  request: pb.ResolveSourceMetaRequest,
  signal: AbortSignal,
): Promise<pb.ResolveSourceMetaResponse> {
  return sourceMetaToWire(await build.bridge.resolveSourceMeta(metaRequestFromWire(request), signal));
}

/** @throws BuildError for what is not served */
export function metaRequestFromWire(request: pb.ResolveSourceMetaRequest): SourceMetaRequest {
  if (!request.Source) throw new BuildError('source is required', { code: Code.invalidArgument, told: true });
  const predicateTypes = request.Image?.ResolveAttestations ?? [];
  const withChain = request.Image?.AttestationChain || predicateTypes.length > 0;
  const checksum = request.HTTP?.ChecksumRequest;
  return {
    source: request.Source,
    platform: request.Platform && platformFromWire(request.Platform),
    resolveMode: request.ResolveMode,
    logName: request.LogName,
    noConfig: request.Image?.NoConfig ?? false,
    ...(withChain ? { attestations: { predicateTypes } } : {}),
    sourcePolicies: request.SourcePolicies,
    gitObjects: request.Git?.ReturnObject ?? false,
    ...(checksum ? { httpChecksum: checksumFromWire(checksum) } : {}),
  };
}

const CHECKSUMS: readonly HttpChecksumRequest['algorithm'][] = ['sha256', 'sha384', 'sha512'];

function checksumFromWire({ Algo, Suffix }: pb.ChecksumRequest): HttpChecksumRequest {
  const algorithm = CHECKSUMS[Algo];
  if (!algorithm) throw new BuildError(`unsupported checksum algorithm ${Algo}`);
  return { algorithm, suffix: Suffix };
}

export function sourceMetaToWire(meta: SourceMeta): pb.ResolveSourceMetaResponse {
  return {
    Source: meta.source,
    Image: meta.image && {
      Digest: meta.image.digest,
      Config: meta.image.config,
      AttestationChain: meta.image.chain && chainToWire(meta.image.chain),
    },
    Git: meta.git && {
      Checksum: meta.git.checksum,
      Ref: meta.git.ref,
      CommitChecksum: meta.git.commitChecksum,
      CommitObject: meta.git.commitObject ?? new Uint8Array(),
      TagObject: meta.git.tagObject ?? new Uint8Array(),
    },
    HTTP: meta.http && {
      Checksum: meta.http.checksum,
      Filename: meta.http.filename,
      LastModified: meta.http.lastModified && timestampOfDate(meta.http.lastModified),
      ChecksumResponse: meta.http.withSuffix && {
        Digest: meta.http.withSuffix.digest,
        Suffix: meta.http.withSuffix.suffix,
      },
    },
  };
}

function warn(bridge: Bridge, request: pb.WarnRequest): void {
  const position = (p: { line: number; character: number } | undefined) => ({
    line: p?.line ?? 0,
    character: p?.character ?? 0,
  });
  bridge.warn({
    vertex: parseDigest(request.digest),
    level: Number(request.level),
    short: request.short,
    detail: request.detail,
    url: request.url,
    ...(request.info
      ? {
          sourceInfo: {
            filename: request.info.filename,
            data: request.info.data,
            language: request.info.language,
          },
        }
      : {}),
    ranges: request.ranges.map((range) => ({ start: position(range.start), end: position(range.end) })),
  });
}
