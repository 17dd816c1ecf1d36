import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import type { Pacer } from '../base/pacer.ts';
import type { Logger } from '../base/log.ts';
import { VERSION } from '../base/version.ts';
import { archiveLayerJobs } from '../cache/archive-jobs.ts';
import { ContentIndexes } from '../cache/content-indexes.ts';
import { SqlKeyStore } from '../cache/keystore.ts';
import { LocalRefManager } from '../cache/manager.ts';
import type { RefManager } from '../cache/ref.ts';
import { handOutControllers } from '../executor/cgroup-root.ts';
import { DeviceRegistry } from '../executor/cdi/registry.ts';
import { deviceSetups } from '../executor/cdi/setup.ts';
import { findEmulator, runsWith } from '../executor/emulator.ts';
import { createRuntimeExecutor, type RuntimeExecutor } from '../executor/executor.ts';
import type { Explainer } from '../explain/explainer.ts';
import { openNetworks, type OpenedNetworks } from '../executor/network-mode.ts';
import type { CheckParts } from '../fsck/finding.ts';
import { Fsck } from '../fsck/fsck.ts';
import type { MountLocally } from '../frontend/tree.ts';
import { parsePlatform } from '../oci/platform.ts';
import { defaultStepLogLimits } from '../ops/step-log.ts';
import type { JobRunner } from '../pool/types.ts';
import type { ProxyConfig } from '../registry/config.ts';
import { HttpClient } from '../registry/http.ts';
import type { Registry } from '../registry/registry.ts';
import type { SessionManager } from '../session/manager.ts';
import { LocalMounter } from '../store/local-mounter.ts';
import type { Store } from '../store/store.ts';
import type { DaemonConfig } from './config.ts';
import { openExplainer } from './explain-service.ts';
import type { DaemonJobs } from './jobs.ts';
import { clearLeftBehind } from './left-behind.ts';
import { OpResolver, type OpServices } from './op-resolver.ts';
import { WorkerPlatforms } from './platforms.ts';
import { SessionServices } from './session-services.ts';
import { openSources, type Sources } from './sources.ts';

const LABEL = 'org.mobyproject.buildkit.worker.';

/** Everything that solves vertices, assembled once. */
export interface Worker extends AsyncDisposable {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly platforms: WorkerPlatforms;
  readonly refs: RefManager;
  /** The solver's cache graph. */
  readonly keys: SqlKeyStore;
  /** Forgets cache keys and content indexes whose record is gone (FEATURES E28). */
  releaseUnreferenced(signal: AbortSignal): Promise<void>;
  readonly store: Store;
  readonly fsck: Fsck;
  readonly registry: Registry;
  readonly sources: Sources;
  readonly ops: OpResolver;
  readonly mountLocally: MountLocally;
  readonly executor: RuntimeExecutor;
  /** For folders that containers see. */
  readonly tmpDir: string;
  readonly devices: DeviceRegistry;
  /** Says afterwards why steps ran; undefined when that is switched off. */
  readonly explainer: Explainer | undefined;
  readonly jobs: JobRunner<DaemonJobs>;
  /** For servers that are no registries. */
  readonly http: HttpClient;
}

export interface WorkerParts {
  readonly config: DaemonConfig;
  readonly store: Store;
  readonly registry: Registry;
  readonly sessions: SessionManager;
  readonly jobs: JobRunner<DaemonJobs>;
  /** Slices what nobody waits for. */
  readonly pacer: Pacer;
  readonly log: Logger;
  readonly proxy: ProxyConfig;
  /** Colon-separated, where runtimes are found. */
  readonly searchPath: string;
}

/** Opens the worker and clears up what a dead daemon left running. */
export async function openWorker(parts: WorkerParts): Promise<Worker> {
  const { config, store, registry, sessions, jobs } = parts;
  await using stack = new AsyncDisposableStack();
  const networks = stack.adopt(await openWorkerNetworks(parts), (opened) => opened.close());
  const devices = openDevices(parts);
  const executor = await openExecutor(parts, networks, devices);
  const tmpDir = openRunDir(parts);
  const mountDir = join(tmpDir, 'mounts');
  const contentIndexes = new ContentIndexes(join(store.layout.dir, 'contenthash'), jobs);
  const keys = new SqlKeyStore(store.db);
  const refs = openRefs(parts, tmpDir, mountDir, recordDropper(keys, store, contentIndexes));
  const mountLocally = localMounts(new LocalMounter(mountDir));
  const clients = new SessionServices(sessions, tmpDir);
  const http = stack.adopt(httpClient(parts), (client) => client.close());
  const sources = openSources({
    store,
    refs,
    registry,
    http,
    sessions,
    clients,
    mountLocally,
    contentIndexes,
    git: gitParts(parts),
  });
  const platforms = openPlatforms(parts, tmpDir);
  const explainer = config.explain ? openExplainer(parts) : undefined;
  const ops = new OpResolver({
    refs,
    executor,
    jobs,
    contentIndexes,
    explainer,
    mountLocally,
    tmpDir,
    maxParallelism: config.oci.maxParallelism,
    ...stepLogOptions(config),
    secrets: clients.secrets,
    ssh: clients.ssh,
    resolveSource: sources.resolve,
    devices,
    emulator: emulatorFinder(parts, platforms),
  });
  stack.defer(() => refs.close());
  stack.defer(() => explainer?.close());
  const opened = stack.move();
  return {
    fsck: openFsck({ store, refs, keys, indexDir: contentIndexes.dir }, explainer),
    id: workerId(store.layout.dir),
    labels: workerLabels(config, store, networks.label),
    platforms,
    refs,
    keys,
    releaseUnreferenced: unreferencedReleaser(refs, keys, contentIndexes),
    store,
    registry,
    sources,
    ops,
    mountLocally,
    executor,
    tmpDir,
    devices,
    explainer,
    jobs,
    http,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

function openFsck(parts: CheckParts, explainer: Explainer | undefined): Fsck {
  const fsck = new Fsck(parts);
  if (explainer) fsck.add((_, options) => explainer.check(options, (path) => parts.store.discard(path)));
  return fsck;
}

/** What a record that is gone takes with it. */
function recordDropper(keys: SqlKeyStore, store: Store, indexes: ContentIndexes): (id: string) => void {
  return (id) => {
    keys.releaseResult(id);
    store.db.afterCommit(() => indexes.drop(id));
  };
}

function httpClient({ proxy }: WorkerParts): HttpClient {
  return new HttpClient({ userAgent: `buildkit/${VERSION}`, proxy });
}

/** Directory of what running steps need, without what an earlier run has left there. */
function openRunDir({ store, log }: WorkerParts): string {
  const dir = join(store.layout.dir, 'run');
  mkdirSync(dir, { recursive: true, mode: 0o711 });
  clearLeftBehind(store.layout.dir, dir, log);
  return dir;
}

function gitParts({ store, proxy, searchPath }: WorkerParts) {
  return { proxy, searchPath, tmpDir: store.layout.tmp, owner: store.layout.dir };
}

function unreferencedReleaser(
  refs: RefManager,
  keys: SqlKeyStore,
  contentIndexes: ContentIndexes,
): Worker['releaseUnreferenced'] {
  return async (signal) => {
    const exists = (id: string): boolean => refs.metadata(id) !== undefined;
    await keys.releaseUnreferenced(exists, signal);
    await contentIndexes.sweep(exists, signal);
  };
}

function openRefs(
  { store, jobs, pacer, log }: WorkerParts,
  tmpDir: string,
  mountDir: string,
  removed: (id: string) => void,
): LocalRefManager {
  return new LocalRefManager({
    db: store.db,
    content: store.content,
    snapshots: store.snapshots,
    leases: store.leases,
    jobs: archiveLayerJobs(jobs, new LocalMounter(join(tmpDir, 'layers'))),
    log,
    mountDir,
    removed,
    pacer,
    measure: (signal) => store.diskUse(signal),
    gc: () => store.gc(),
  });
}

function openWorkerNetworks({ config, store, log, searchPath }: WorkerParts): Promise<OpenedNetworks> {
  const { network } = config.oci;
  if (network.mode === 'host' && !network.chosen) log.warn('using host network as the default');
  return openNetworks({
    mode: network.mode,
    preferBridge: false, // the configuration has looked at that already
    root: store.layout.dir,
    configPath: network.cniConfigPath,
    binaryDir: network.cniBinaryPath,
    bridgeName: network.bridgeName,
    bridgeSubnet: network.bridgeSubnet,
    searchPath,
    log,
    ...(config.env.cniInitLockPath ? { initLockPath: config.env.cniInitLockPath } : {}),
  });
}

async function openExecutor(
  { config, store, log, searchPath }: WorkerParts,
  networks: OpenedNetworks,
  devices: DeviceRegistry,
): Promise<RuntimeExecutor> {
  const { oci, dns } = config;
  if (config.env.setupCgroupV2Root) handOutControllers(log);
  const executor = createRuntimeExecutor({
    dir: join(store.layout.dir, 'executor'),
    searchPath,
    networks: networks.providers,
    devices,
    log,
    ...(oci.binary ? { binary: oci.binary } : {}),
    ...(dns ? { dns } : {}),
    ...(oci.defaultCgroupParent ? { cgroupParent: oci.defaultCgroupParent } : {}),
  });
  await executor.recover();
  return executor;
}

function openPlatforms({ config, searchPath }: WorkerParts, tmpDir: string): WorkerPlatforms {
  return new WorkerPlatforms({
    configured: config.oci.platforms.map(parsePlatform),
    tmpDir,
    searchPath,
    maxAgeMs: config.platformsCacheMaxAgeMs,
  });
}

function emulatorFinder(
  { searchPath, log }: WorkerParts,
  platforms: WorkerPlatforms,
): OpServices['emulator'] {
  return async (platform) => {
    if (runsWith(platform, platforms.native)) return undefined; // most steps: nothing is tried for them
    return findEmulator(platform, { supported: await platforms.machine(), searchPath, log });
  };
}

/** Says at the start which specifications cannot be used. */
function openDevices({ config, log, searchPath }: WorkerParts): DeviceRegistry {
  const { specDirs, autoAllowed, onDemand } = config.cdi;
  const setups = deviceSetups(onDemand, { specDir: specDirs[0] ?? '', searchPath });
  const devices = new DeviceRegistry({ specDirs, autoAllowed, setups, log });
  devices.list();
  return devices;
}

/** A view that gives its mounts back together with the directory they were mounted on. */
function localMounts(mounter: LocalMounter): MountLocally {
  return async (view) => {
    try {
      const tree = mounter.mount(view.mounts);
      return {
        path: tree.path,
        release: async () => {
          await tree[Symbol.asyncDispose]();
          await view.release();
        },
      };
    } catch (error) {
      await view.release();
      throw error;
    }
  };
}

function stepLogOptions({ env }: DaemonConfig): Pick<OpServices, 'logLimits' | 'tee'> {
  const { maxBytes, maxBytesPerSecond } = defaultStepLogLimits;
  return {
    logLimits: {
      maxBytes: env.stepLogMaxSize ?? maxBytes,
      maxBytesPerSecond: env.stepLogMaxSpeed ?? maxBytesPerSecond,
    },
    ...(env.debugExecOutput ? { tee } : {}),
  };
}

function tee(stream: 1 | 2, data: Uint8Array): void {
  (stream === 1 ? process.stdout : process.stderr).write(data);
}

/** Random, written once. */
function workerId(dir: string): string {
  const path = join(dir, 'workerid');
  if (existsSync(path)) return readFileSync(path, 'utf8').trim();
  const id = BigInt(`0x${randomBytes(16).toString('hex')}`)
    .toString(36)
    .padStart(25, '0')
    .slice(0, 25);
  writeFileSync(path, id, { mode: 0o400 });
  return id;
}

function workerLabels(config: DaemonConfig, store: Store, network: string): Readonly<Record<string, string>> {
  return {
    [`${LABEL}executor`]: 'oci',
    [`${LABEL}snapshotter`]: store.snapshots.name,
    [`${LABEL}hostname`]: hostname(),
    [`${LABEL}network`]: network,
    [`${LABEL}oci.process-mode`]: 'sandbox',
    [`${LABEL}selinux.enabled`]: 'false',
    ...config.oci.labels,
  };
}
