import { randomBytes } from 'node:crypto';
import { BuildError, canceled, invalidArgument } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Executor, Mountable, ProcessMeta, RunIo } from '../executor/types.ts';
import type { Mount as LlbMount, SecretEnv } from '../llb/ops.ts';
import { type ExecMountServices, type PreparedMounts, prepareMounts, releaseAll } from './exec-mounts.ts';
import { secretEnvironment } from './secret-mount.ts';

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const WINDOWS_PATH = 'c:\\Windows\\System32;c:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0';
const ID_BYTES = 16;

export interface ContainerServices extends ExecMountServices {
  readonly executor: Executor;
  /** @throws BuildError for what the build was not granted */
  readonly check: (process: { readonly networkHost: boolean; readonly insecure: boolean }) => void;
}

export interface ContainerOptions
  extends Pick<ProcessMeta, 'extraHosts'>,
    Required<Pick<ProcessMeta, 'hostname' | 'network'>> {
  /** Of the programs inside. */
  readonly os: string;
  /** For descriptions. */
  readonly name: string;
  /** Each with the tree to mount, where it has one: cloned. */
  readonly mounts: readonly { readonly llb: LlbMount; readonly tree: ImmutableRef | null }[];
}

export interface StartOptions
  extends Pick<
    ProcessMeta,
    'args' | 'env' | 'cwd' | 'user' | 'security' | 'tty' | 'removeMountStubsRecursive'
  > {
  readonly secretEnv: readonly SecretEnv[];
}

/** Mounts that stay as long as somebody works on them, and the processes that do (FEATURES G27). */
export class Container {
  readonly #id = randomBytes(ID_BYTES).toString('hex');
  readonly #options: ContainerOptions;
  readonly #services: ContainerServices;
  readonly #prepared: PreparedMounts;
  readonly #trees: readonly ImmutableRef[];
  readonly #abort: AbortController;
  readonly #processes = new Set<Promise<void>>();
  #isStarted = false;

  private constructor(
    options: ContainerOptions,
    services: ContainerServices,
    prepared: PreparedMounts,
    trees: readonly ImmutableRef[],
    abort: AbortController,
  ) {
    this.#options = options;
    this.#services = services;
    this.#prepared = prepared;
    this.#trees = trees;
    this.#abort = abort;
  }

  /** Prepares the mounts. Aborting `signal` stops that; not what is opened. */
  static async open(
    options: ContainerOptions,
    services: ContainerServices,
    signal: AbortSignal,
  ): Promise<Container> {
    signal.throwIfAborted();
    const abort = new AbortController();
    const onAbort = (): void => abort.abort(signal.reason);
    signal.addEventListener('abort', onAbort);
    const trees: ImmutableRef[] = [];
    const mounts = options.mounts.map(({ llb, tree }) => {
      if (tree) trees.push(tree.clone());
      return { ...llb, input: tree ? BigInt(trees.length - 1) : -1n, output: 0n };
    });
    try {
      const { name } = options;
      const prepared = await prepareMounts({ mounts, cwd: '/', name }, trees, services, abort.signal);
      return new Container(options, services, prepared, trees, abort);
    } catch (error) {
      await releaseAll(trees.map((tree) => () => tree.release()));
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Runs a process to its end: the first one is the container's own, the others join it. @throws as `Executor.run` */
  async start(options: StartOptions, io: RunIo): Promise<void> {
    const isFirst = !this.#isStarted;
    this.#isStarted = true;
    const running = this.#run(options, isFirst, {
      ...io,
      signal: AbortSignal.any([io.signal, this.#abort.signal]),
    });
    this.#processes.add(running);
    try {
      await running;
    } finally {
      this.#processes.delete(running);
    }
  }

  async #run(options: StartOptions, isFirst: boolean, io: RunIo): Promise<void> {
    const { executor, check, getSecret } = this.#services;
    const { secretEnv, ...own } = options;
    const { network, hostname, extraHosts, os } = this.#options;
    check({ networkHost: network === 'host', insecure: own.security === 'insecure' });
    const given = withDefault(
      withDefault(own.env, 'PATH', os === 'windows' ? WINDOWS_PATH : DEFAULT_PATH),
      'TERM',
      own.tty ? 'xterm' : '',
    );
    // Most have none: the first process is then known to the executor at once, and the others find it.
    const secrets = secretEnv.length === 0 ? [] : await secretEnvironment(secretEnv, getSecret, io.signal);
    const meta: ProcessMeta = { ...own, cwd: own.cwd || '/', env: [...given, ...secrets] };
    if (!isFirst) return executor.exec(this.#id, meta, io);
    const { root, readonlyRoot, mounts } = this.#prepared;
    await executor.run(
      {
        id: this.#id,
        root: { source: root, readonly: readonlyRoot },
        mounts,
        meta: { ...meta, network, hostname, ...(extraHosts ? { extraHosts } : {}) },
      },
      io,
    );
  }

  /** What the mount of this index shows. */
  mounted(index: number): Mountable {
    const { sources } = this.#prepared;
    if (!Number.isInteger(index) || index < 0 || index >= this.#options.mounts.length) {
      const { length } = this.#options.mounts;
      throw invalidArgument(`mount index ${index} is out of bounds (${length} available)`);
    }
    const source = sources[index];
    if (!source) throw new BuildError(`mountable ${index} not found`);
    return source;
  }

  /** Ends the processes and gives everything back. True when some had to be ended. */
  async release(): Promise<boolean> {
    const cutShort = this.#processes.size > 0;
    this.#abort.abort(canceled());
    await Promise.allSettled(this.#processes);
    const { outputs, actives, cleanup } = this.#prepared;
    await releaseAll([
      ...this.#trees.map((tree) => () => tree.release()),
      ...cleanup,
      ...[...outputs, ...actives].map(
        ({ ref }) =>
          () =>
            ref.release(),
      ),
    ]);
    return cutShort;
  }
}

function withDefault(env: readonly string[], name: string, value: string): readonly string[] {
  return value === '' || env.some((entry) => entry.startsWith(`${name}=`))
    ? env
    : [...env, `${name}=${value}`];
}
