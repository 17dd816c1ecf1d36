import { chmodSync, chownSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { BuildError, Code } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { makeDirs } from '../base/make-dirs.ts';
import { Pacer } from '../base/pacer.ts';
import { Running } from '../base/running.ts';
import { DOCKERFILE_VERSION, PACKAGE, REVISION, VERSION } from '../base/version.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { describeVertexError } from '../frontend/describe-error.ts';
import { RequestStore } from '../frontend/requests.ts';
import type { VertexSpec } from '../llb/parse.ts';
import type { Platform } from '../oci/platform.ts';
import type { SolveRequest } from '../pb/control.ts';
import { TraceServiceDefinition } from '../pb/otlp_trace.ts';
import type { BuildkitVersion, WorkerRecord } from '../pb/worker.ts';
import { type PoolOptions, WorkerPool } from '../pool/pool.ts';
import type { ProxyConfig } from '../registry/config.ts';
import { Registry } from '../registry/registry.ts';
import { healthService } from '../rpc/health.ts';
import { type Listener, listenGrpc, type TlsIdentity } from '../rpc/listen.ts';
import { reflectionServices } from '../rpc/reflection.ts';
import { createGrpcServer, type GrpcServer, service } from '../rpc/server.ts';
import { SessionManager } from '../session/manager.ts';
import { Solver } from '../solver/solver.ts';
import { openStore, type Store } from '../store/store.ts';
import { trimMemory } from '../sys/memory.ts';
import type { AutoGc } from './auto-gc.ts';
import { BuildRegistry } from './build-registry.ts';
import { build } from './build.ts';
import { cacheImports } from './cache-options.ts';
import { checkService, repairWhenRebuilt } from './check-service.ts';
import type { DaemonConfig } from './config.ts';
import { contentService } from './content-service.ts';
import { controlService } from './control.ts';
import { cachePlaces } from './cache-places.ts';
import { ghaOptions } from './gha-places.ts';
import { EXPLANATION_MEDIA_TYPE, explainService, explanationJson, OpenBuilds } from './explain-service.ts';
import { chooserFinder, exporterMaker } from './exporters.ts';
import { loadProvenanceEnv } from './provenance-env.ts';
import { verifierFinder } from './policy.ts';
import { openFrontends } from './frontends.ts';
import { type GatewayBuild, gatewayService } from './gateway.ts';
import { gcPolicies } from './gc-policy.ts';
import { History } from './history/history.ts';
import type { DiskGuard } from './disk-guard.ts';
import { guardedOp } from './guarded-op.ts';
import { diskUsageService } from './disk-usage-service.ts';
import type { DaemonJobs } from './jobs.ts';
import type { ListenAddress } from './listen-address.ts';
import { lockRoot } from './lock.ts';
import { platformToWire } from './platform-wire.ts';
import { buildStatus } from './status.ts';
import { observe, sourcesOf } from './observe.ts';
import { readTlsIdentity } from './tls-identity.ts';
import { attended, diskBytes, openGc, openGuard } from './upkeep.ts';
import { openWorker, type Worker } from './worker.ts';

/** How long running calls, and then the steps they started, may take to end once the daemon stops, milliseconds. */
const STOP_GRACE_MS = 10_000;
const NANOS_PER_MS = 1_000_000n;

export interface DaemonParts {
  readonly config: DaemonConfig;
  readonly log: Logger;
  /** The program of worker threads. */
  readonly worker: PoolOptions['worker'];
  readonly searchPath: string;
  /** Proxy settings of the daemon's environment. */
  readonly proxy: ProxyConfig;
}

/** A running daemon; disposing it stops it: builds are cancelled, and nothing stays mounted or running. */
export interface Daemon extends AsyncDisposable {
  readonly addresses: readonly string[];
}

/** Starts everything (the only place that wires rooms together). @throws BuildError when it cannot */
export async function startDaemon(parts: DaemonParts): Promise<Daemon> {
  const { config, log } = parts;
  await using stack = new AsyncDisposableStack();
  stack.use(lockRoot(config.root, `buildkitd (pid ${process.pid})`));
  const { jobs, background } = openPools(stack, parts.worker);
  const running = new Running();
  const pacer = new Pacer(() => running.count > 0);
  const { root, oci } = config;
  const store = stack.use(openStore({ root, snapshotter: oci.snapshotter, jobs, background, pacer, log }));
  if (store.warning) log.warn(store.warning);
  const sessions = new SessionManager({ log });
  stack.defer(() => sessions.close());
  const registry = new Registry({
    registries: registryConfigs(config),
    userAgent: `buildkit-ts/${VERSION}`,
    maxConnections: config.maxRegistryConcurrency,
    proxy: parts.proxy,
  });
  stack.defer(() => registry.close());
  const tls = config.tls && readTlsIdentity(config.tls);
  if (oci.enabled === false) throw new BuildError('no worker found, rebuild the buildkit daemon?');
  const worker = stack.use(
    await openWorker({
      config,
      store,
      registry,
      sessions,
      jobs,
      pacer,
      log,
      proxy: parts.proxy,
      searchPath: parts.searchPath,
    }),
  );
  const stopping = new AbortController();
  stack.use(repairWhenRebuilt(worker, stopping.signal, log));
  const gc = stack.use(openGc(config, worker, log));
  const guard = stack.use(openGuard(config, worker, log));
  const history = stack.use(openHistory(config, worker, log));
  // With a cache from elsewhere there may be nothing to do for a thread.
  const warm = ({ Cache }: SolveRequest): void => {
    if (cacheImports(Cache).length === 0) jobs.warm();
  };
  const { signal } = stopping;
  const built = { config, log, store, worker, sessions, history, gc, guard, running, warm };
  const { server, builds, solver } = createServer({ ...built, stopping: signal });
  const listeners: Listener[] = [];
  stack.defer(async () => {
    stopping.abort(new BuildError('context canceled: the daemon is stopping', { code: Code.canceled }));
    history.stop();
    const closed = listeners.map((listener) => listener.close()); // once the connections are
    await Promise.all([server.close({ graceMs: STOP_GRACE_MS }), ...closed]);
    // Those whose client is gone, too: what they hold must be free before it is closed.
    const ended = (await builds.ended(STOP_GRACE_MS)) && (await solver.idle(STOP_GRACE_MS));
    if (!ended) log.error('builds do not end: stopping without them', { builds: builds.count });
  });
  stack.use(await observe(sourcesOf(solver, worker.ops.slots), solver, config, log));
  for (const address of config.addresses) listeners.push(await listen(server, address, config, tls, log));
  gc.schedule();
  const open = stack.move();
  return {
    addresses: listeners.map((listener) => listener.address),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

function openHistory(config: DaemonConfig, { store, explainer, fsck }: Worker, log: Logger): History {
  const { db, content, leases, layout } = store;
  const dir = join(layout.dir, 'history');
  const deleted = (ref: string): void => explainer?.forget(ref);
  const history = new History({
    db,
    content,
    leases,
    collect: () => store.gc(),
    deleted,
    log,
    dir,
    ...config.history,
  });
  fsck.add((_, options) => history.check(options, (path) => store.discard(path)));
  explainer?.onExplained((ref, told) => history.attach(ref, explanationJson(told), EXPLANATION_MEDIA_TYPE));
  return history;
}

/** Threads for builds, and one with the least priority for what nobody waits for. */
function openPools(stack: AsyncDisposableStack, worker: PoolOptions['worker']) {
  const size = Math.max(2, availableParallelism());
  const jobs = stack.use(new WorkerPool<DaemonJobs>({ size, worker, onIdle: () => void trimMemory() }));
  const workerData = { background: true };
  const background = stack.use(new WorkerPool<DaemonJobs>({ size: 1, worker, workerData }));
  return { jobs, background };
}

interface ServerParts {
  readonly config: DaemonConfig;
  readonly log: Logger;
  readonly store: Store;
  readonly worker: Worker;
  readonly sessions: SessionManager;
  readonly history: History;
  readonly gc: AutoGc;
  readonly guard: DiskGuard;
  readonly running: Running;
  /** Readies what builds will want. */
  readonly warm: (request: SolveRequest) => void;
  readonly stopping: AbortSignal;
}

const OWN_VERSION: BuildkitVersion = {
  package: PACKAGE,
  version: VERSION,
  revision: REVISION,
  dockerfileVersion: DOCKERFILE_VERSION,
};

function createServer(parts: ServerParts): {
  server: GrpcServer;
  builds: Running;
  solver: Pick<Solver<VertexSpec, ImmutableRef>, 'idle' | 'dump' | 'find' | 'jobStates'>;
} {
  const { config, log, store, worker, sessions, history, gc, guard, running, stopping } = parts;
  const solver = openSolver(worker, guard);
  const builds = new BuildRegistry<GatewayBuild>();
  const workers = async () => [workerRecord(config, worker, OWN_VERSION, await worker.platforms.refresh())];
  const clients = {
    makeExporter: exporterMaker(worker, sessions),
    chooserOf: chooserFinder(sessions),
    verifierOf: verifierFinder(sessions),
    cachePlaces: cachePlaces(worker, sessions, ghaOptions(config, log)),
    history,
    requests: new RequestStore(),
    provenanceEnv: loadProvenanceEnv(config.provenanceEnvDir),
    log,
  };
  const frontends = openFrontends(config, worker, workers);
  const { entitlements } = config;
  const services = { solver, worker, builds, frontends, ...clients, entitlements, guard, stopping };
  const open = new OpenBuilds(worker.explainer, sessions);
  const control = controlService({
    refs: worker.refs,
    forget: () => {
      if (running.count === 0) worker.sources.images.forget();
    },
    version: OWN_VERSION,
    workers,
    solve: (request, signal, folders) =>
      running.track(
        attended({ guard, gc, warm: () => parts.warm(request) }, async () => {
          using _open = open.begin(request, folders);
          return await build(request, services, { signal, ended: (job) => open.ended(job) });
        }),
      ),
    status: (ref, signal) =>
      buildStatus(ref, signal, {
        history,
        running: async () => (await solver.job(ref, signal)).status(AbortSignal.any([signal, stopping])),
      }),
    history,
    session: (stream, metadata, signal) => sessions.handle(stream, metadata, signal),
  });
  const all = [
    control,
    gatewayService(builds, workers),
    contentService(store.content),
    diskUsageService({ worker, solver }),
    checkService(worker.fsck),
    explainService({
      explainer: worker.explainer,
      builds: open,
      running: (ref) => solver.find(ref),
      soon: (ref, signal) => solver.job(ref, signal),
    }),
    noTraces,
    healthService(['']),
  ];
  const server: GrpcServer = createGrpcServer({
    services: [...all, ...reflectionServices(() => server.serviceNames)],
    onCallError: (path, error, peer) =>
      log.debug('call failed', { path, error, code: error.code, peer: peer.address }),
  });
  return { server, builds: running, solver };
}

const noTraces = service(TraceServiceDefinition, {
  export: async () => {
    throw new BuildError('no trace collector is configured', { code: Code.unavailable });
  },
});

function openSolver(worker: Worker, guard: DiskGuard): Solver<VertexSpec, ImmutableRef> {
  const solver = new Solver<VertexSpec, ImmutableRef>({
    keys: worker.keys,
    results: {
      save: (ref) => ref.id,
      load: (id, { peek = false }) => worker.refs.get(id, { countUse: !peek }),
      exists: (id) => worker.refs.metadata(id) !== undefined,
    },
    resolveOp: (vertex, solve) => guardedOp(worker.ops.resolve(vertex, solve), vertex, guard),
    joined: (op, vertex) => worker.ops.joined(op, vertex),
    describeError: (error, vertex) => describeVertexError(error, vertex.digest, vertex.spec.locations),
  });
  guard.onNothingLeft(() => solver.dropLeftovers());
  return solver;
}

function workerRecord(
  config: DaemonConfig,
  worker: Worker,
  version: BuildkitVersion,
  platforms: readonly Platform[],
): WorkerRecord {
  const policies = gcPolicies(config.oci.gc, diskBytes(config.root));
  return {
    ID: worker.id,
    Labels: { ...worker.labels },
    platforms: platforms.map(platformToWire),
    GCPolicy: policies.map((rule) => ({
      all: rule.all ?? false,
      keepDuration: BigInt(rule.keepDurationMs ?? 0) * NANOS_PER_MS,
      reservedSpace: BigInt(rule.reservedSpace ?? 0),
      filters: [...(rule.filters ?? [])],
      maxUsedSpace: BigInt(rule.maxUsedSpace ?? 0),
      minFreeSpace: BigInt(rule.minFreeSpace ?? 0),
    })),
    BuildkitVersion: version,
    CDIDevices: worker.devices.list().map(({ name, autoAllow, annotations, onDemand }) => ({
      Name: name,
      AutoAllow: autoAllow,
      Annotations: { ...annotations },
      OnDemand: onDemand,
    })),
  };
}

function registryConfigs(config: DaemonConfig) {
  return Object.fromEntries(
    [...config.registries].map(([host, own]) => [
      host,
      {
        mirrors: own.mirrors,
        ...(own.plainHttp === undefined ? {} : { http: own.plainHttp }),
        ...(own.insecure === undefined ? {} : { insecure: own.insecure }),
        ca: own.rootCas,
        keyPairs: own.keyPairs,
        tlsConfigDirs: own.tlsConfigDirs,
      },
    ]),
  );
}

async function listen(
  server: GrpcServer,
  address: ListenAddress,
  config: DaemonConfig,
  tls: TlsIdentity | undefined,
  log: Logger,
): Promise<Listener> {
  if (address.kind === 'unix') {
    if (config.tls) log.warn('TLS is ignored for the unix socket', { address: address.text });
    makeDirs(dirname(address.path));
    rmSync(address.path, { force: true });
    const listener = await listenGrpc(server, { kind: 'unix', path: address.path });
    chownSync(address.path, config.socketOwner.uid, config.socketOwner.gid);
    chmodSync(address.path, 0o660);
    return listener;
  }
  if (address.kind === 'fd') {
    throw new BuildError('socket activation (fd://) is not supported yet', { code: Code.unimplemented });
  }
  if (!tls)
    log.warn('TLS is not enabled for the TCP listener: anybody who reaches it can build', {
      address: address.text,
    });
  return listenGrpc(server, { kind: 'tcp', host: address.host, port: address.port }, tls);
}
