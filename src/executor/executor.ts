import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, Code, errno, invalidArgument, notFound } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { detachAll, mountAll, umountAsync } from '../sys/mount.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import type { DeviceRegistry, DeviceRequest } from './cdi/registry.ts';
import type { ContainerEdits } from './cdi/spec.ts';
import { hadOomKill, isCgroupV2, killCgroup, unifiedDirectory } from './cgroup.ts';
import { Freezer } from './freezer.ts';
import { type ContainerNetwork, type NetworkProviders, networkFor } from './network.ts';
import { BUNDLE_FILES, recoverContainers } from './recover.ts';
import {
  DEFAULT_HOSTNAME,
  type DnsConfig,
  makeHosts,
  ResolvConfFiles,
  writeAtomically,
} from './resolvconf.ts';
import { followInRoot, watchMountStubs } from './rootpaths.ts';
import { deleteContainer, findRuntime, type Runtime, runContainer, supportsKeep } from './runtime.ts';
import { RunningContainer } from './running.ts';
import { cgroupsPath, makeSpec, type NetworkSource } from './spec.ts';
import { StepUsage } from './step-usage.ts';
import { MountPlan, removePlace } from './submounts.ts';
import { exitError } from './exit.ts';
import { type ExecRequest, type Executor, type RunIo, type RunRequest, UNKNOWN_EXIT_CODE } from './types.ts';
import { lookUpUser, type ProcessUser } from './user.ts';

export interface RuntimeExecutorOptions {
  /** The executor's own directory: bundles, runtime state, resolv.conf. Made when missing. */
  readonly dir: string;
  /** Only this runtime, a name or path; the first that works here when absent. */
  readonly binary?: string;
  /** Colon-separated, where runtimes are found and what they get as PATH. */
  readonly searchPath: string;
  readonly networks: NetworkProviders;
  readonly dns?: DnsConfig;
  /** For steps that name none; see FEATURES G11. */
  readonly cgroupParent?: string;
  readonly apparmorProfile?: string;
  readonly oomScoreAdj?: number;
  /** Finds CDI devices; without it steps get none. */
  readonly devices?: Pick<DeviceRegistry, 'find' | 'edits'>;
  readonly log: Logger;
}

const ID_BYTES = 16;
const CWD_MODE = 0o755;

/** Finds the runtime and makes the directory. @throws BuildError when there is no runtime */
export function createRuntimeExecutor(options: RuntimeExecutorOptions): RuntimeExecutor {
  return new RuntimeExecutor(options);
}

/** Runs containers with crun or runc. */
export class RuntimeExecutor implements Executor {
  readonly runtime: Runtime;
  readonly #options: RuntimeExecutorOptions;
  readonly #dir: string;
  readonly #resolvConf: ResolvConfFiles;
  readonly #running = new Map<string, RunningContainer>();
  readonly #seccomp = existsSync('/proc/sys/kernel/seccomp/actions_avail');
  readonly #cgroupV2 = isCgroupV2();
  readonly #freezer: Freezer;
  #keep: Promise<boolean> | undefined;

  constructor(options: RuntimeExecutorOptions) {
    checkAppArmor(options.apparmorProfile);
    const path = findRuntime(options.binary, options.searchPath);
    mkdirSync(options.dir, { recursive: true, mode: 0o711 });
    this.#options = options;
    this.#freezer = new Freezer(options.searchPath);
    this.#dir = realpathSync(options.dir);
    const stateDir = join(this.#dir, 'state');
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    this.runtime = { path, stateDir, env: { PATH: options.searchPath } };
    this.#resolvConf = new ResolvConfFiles(this.#dir, options.dns);
    writeAtomically(join(this.#dir, 'hosts'), makeHosts(DEFAULT_HOSTNAME));
  }

  /** Ends what an earlier daemon left behind. Before the first run. */
  async recover(): Promise<void> {
    await recoverContainers(this.runtime, this.#dir, this.#options.log);
  }

  async run(request: RunRequest, io: RunIo): Promise<void> {
    io.signal.throwIfAborted();
    const id = checkedId(request.id);
    if (this.#running.has(id)) throw invalidArgument(`container ${id} is running already`);
    const bundle = join(this.#dir, id);
    const running = new RunningContainer(this.runtime, id, bundle);
    this.#running.set(id, running);
    const cleanup = new Cleanup(this.#options.log, id);
    try {
      const network = await this.#prepare(id, request, io.signal, cleanup);
      cleanup.add('other processes', () => running.close());
      await this.#execute(id, bundle, request, io, network);
      running.ended();
    } catch (error) {
      running.ended(error);
      throw error;
    } finally {
      await cleanup.run();
      this.#running.delete(id);
    }
  }

  async exec(id: string, request: ExecRequest, io: RunIo): Promise<void> {
    const running = this.#running.get(id);
    if (!running) throw notFound(`container ${id} not found`);
    await this.#freezer.open(io.signal);
    await running.exec(request, io);
  }

  /** Stops all containers where they are, until `resume`; see `Freezer.pause`. */
  pause(): boolean {
    return this.#freezer.pause();
  }

  resume(): void {
    this.#freezer.resume();
  }

  /** Mounts everything and writes the bundle; what it made is undone by `cleanup`. */
  async #prepare(
    id: string,
    request: RunRequest,
    signal: AbortSignal,
    cleanup: Cleanup,
  ): Promise<ContainerNetwork> {
    const { meta } = request;
    const mode = meta.network ?? 'unset';
    const provider = networkFor(this.#options.networks, mode);
    const network = await provider.open(meta.hostname ?? '', { signal });
    cleanup.add('network', () => network.release());
    const resolvConf = this.#resolvConf.path(mode === 'host');

    const view = await request.root.source.mount(false);
    cleanup.add('root', () => view.release());
    const bundle = join(this.#dir, id);
    mkdirSync(bundle, { mode: 0o711 });
    cleanup.add('bundle', () => removeBundle(bundle));
    const rootfs = join(bundle, 'rootfs');
    mkdirSync(rootfs, { mode: 0o700 });
    mountAll(view.mounts, rootfs);
    cleanup.add('rootfs', () => unmountRoot(rootfs));

    const root = openRootfs(rootfs);
    cleanup.add('root directory', () => root[Symbol.dispose]());
    // Before any is made: a folder that only holds a mount point goes with it.
    const removeStubs = watchMountStubs(root, request.mounts, meta.removeMountStubsRecursive === true);
    cleanup.add('mount stubs', removeStubs);
    makeMountDirectories(root);
    const user = lookUpUser(root, meta.user);
    const plan = new MountPlan(join(bundle, 'mounts'));
    cleanup.add('mounts', () => plan.release());
    for (const mount of request.mounts) await plan.add(mount);
    makeWorkingDirectory(root, meta.cwd || '/', user);
    const spec = this.#spec(id, request, { bundle, rootfs, plan, user, resolvConf, network: network.source });
    // Its environment may hold secrets.
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec), { mode: 0o600 });
    return network;
  }

  #spec(
    id: string,
    request: RunRequest,
    parts: {
      readonly bundle: string;
      readonly rootfs: string;
      readonly plan: MountPlan;
      readonly user: ProcessUser;
      readonly resolvConf: string;
      readonly network: NetworkSource;
    },
  ): Record<string, unknown> {
    const { meta, root } = request;
    let hosts = join(this.#dir, 'hosts');
    if ((meta.hostname && meta.hostname !== DEFAULT_HOSTNAME) || (meta.extraHosts ?? []).length > 0) {
      hosts = join(parts.bundle, 'hosts');
      writeFileSync(hosts, makeHosts(meta.hostname ?? '', meta.extraHosts), { mode: 0o644 });
    }
    return makeSpec({
      id,
      rootfs: parts.rootfs,
      readonlyRootfs: root.readonly,
      meta,
      user: parts.user,
      mounts: parts.plan.entries,
      resolvConf: parts.resolvConf,
      hosts,
      network: parts.network,
      cgroupParent: this.#options.cgroupParent ?? '',
      cgroupV2: this.#cgroupV2,
      seccomp: this.#seccomp,
      apparmorProfile: this.#options.apparmorProfile ?? '',
      oomScoreAdj: this.#options.oomScoreAdj,
      deviceEdits: this.#deviceEdits(meta.devices ?? []),
    });
  }

  #deviceEdits(requests: readonly DeviceRequest[]): readonly ContainerEdits[] {
    const { devices } = this.#options;
    if (requests.length === 0 || !devices) return [];
    try {
      return devices.edits(devices.find(requests));
    } catch (error) {
      throw BuildError.wrap(error, 'CDI device injection failed');
    }
  }

  async #execute(
    id: string,
    bundle: string,
    request: RunRequest,
    io: RunIo,
    { counters }: ContainerNetwork,
  ): Promise<void> {
    const cgroup = cgroupsPath(id, request.meta.cgroupParent || (this.#options.cgroupParent ?? ''));
    if (this.#cgroupV2) this.#keep ??= supportsKeep(this.runtime);
    const keep = (await this.#keep) === true;
    let code: number | undefined;
    let failure: unknown;
    using usage =
      this.#cgroupV2 && io.onUsage ? new StepUsage(unifiedDirectory(cgroup), counters) : undefined;
    using _member = this.#freezer.add(id, cgroup, io.signal);
    try {
      await this.#freezer.open(io.signal);
      const files = { logFile: join(bundle, 'runtime.log'), pidFile: join(bundle, 'pid') };
      code = await runContainer(
        this.runtime,
        { id, bundle, ...files, keep, tty: request.meta.tty === true, onKill: () => this.#freezer.thaw(id) },
        io,
      );
    } catch (error) {
      failure = error;
    }
    if (usage && code !== undefined) io.onUsage?.(usage.read());
    const oom = code !== 0 && hadOomKill(cgroup);
    if (existsSync(join(this.runtime.stateDir, id)) || code === undefined)
      await deleteContainer(this.runtime, id);
    // Most often gone with the container; now and then a runtime finds one of its cgroups busy and leaves it.
    await killCgroup(cgroup);
    const exit = code ?? UNKNOWN_EXIT_CODE;
    const valid = request.meta.validExitCodes;
    if (code !== undefined && (valid ? valid.includes(code) : code === 0)) return;
    throw exitError(exit, { failure, oom, signal: io.signal });
  }
}

function checkedId(id: string | undefined): string {
  if (id === undefined)
    return BigInt(`0x${randomBytes(ID_BYTES).toString('hex')}`)
      .toString(36)
      .padStart(25, '0');
  if (id === '') throw invalidArgument('container id must not be empty');
  if (/^[A-Za-z0-9]+$/.test(id)) return id;
  throw invalidArgument(`invalid container id ${JSON.stringify(id)}: only letters and numbers are allowed`);
}

function checkAppArmor(profile: string | undefined): void {
  if (!profile) return;
  const enabled = '/sys/module/apparmor/parameters/enabled';
  if (existsSync(enabled) && readFileSync(enabled, 'utf8').startsWith('Y')) return;
  throw new BuildError(`AppArmor is not supported on this host, but the profile '${profile}' was specified`, {
    code: Code.failedPrecondition,
  });
}

/** What every container mounts on; runtimes differ in the mode they would give it. */
function makeMountDirectories(root: Rootfs): void {
  for (const path of ['/dev', '/proc', '/sys']) {
    try {
      if (!root.lstatOrNone(path)) root.mkdir(path, 0o755);
    } catch (error) {
      // A read-only tree: the runtime will say what it misses.
      if (errno(error) !== 'EROFS') throw error;
    }
  }
}

/** FEATURES G8. */
function makeWorkingDirectory(root: Rootfs, cwd: string, user: ProcessUser): void {
  let target: string;
  try {
    target = followInRoot(root, cwd);
  } catch (error) {
    throw BuildError.wrap(error, `working dir ${cwd} points to invalid target`);
  }
  if (root.lstatOrNone(target)) return;
  try {
    root.mkdirAll(target, CWD_MODE, (path) => root.lchown(path, user.uid, user.gid));
  } catch (error) {
    throw BuildError.wrap(error, `failed to create working directory ${cwd}`);
  }
}

async function unmountRoot(rootfs: string): Promise<void> {
  try {
    await umountAsync(rootfs);
  } catch {
    // Something still holds it: it goes when that ends, and out of sight now.
    detachAll(rootfs);
  }
}

/** Only names that belong to a bundle: should anything be mounted still, it is out of reach. */
function removeBundle(bundle: string): void {
  for (const name of BUNDLE_FILES) removePlace(join(bundle, name));
  removePlace(bundle);
}

/** Steps to undo, last first. One that fails is logged and does not stop the others. */
class Cleanup {
  readonly #steps: { readonly name: string; readonly undo: () => void | Promise<void> }[] = [];
  readonly #log: Logger;
  readonly #id: string;

  constructor(log: Logger, id: string) {
    this.#log = log;
    this.#id = id;
  }

  add(name: string, undo: () => void | Promise<void>): void {
    this.#steps.push({ name, undo });
  }

  async run(): Promise<void> {
    for (const { name, undo } of this.#steps.reverse()) {
      try {
        await undo();
      } catch (error) {
        this.#log.error('container clean-up failed', {
          id: this.#id,
          step: name,
          error,
          code: Code.internal,
        });
      }
    }
  }
}
