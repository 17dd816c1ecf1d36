import { goQuote } from '../base/go-quote.ts';
import { BuildError, invalidArgument } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { DeviceRegistry } from '../executor/cdi/registry.ts';
import { EMULATOR_PATH, emulatorMount } from '../executor/emulator.ts';
import { relaxResources } from '../executor/relax.ts';
import {
  type Executor,
  ExitError,
  exitCodeOf,
  type LinuxResources,
  type ProcessMeta,
  type RunRequest,
} from '../executor/types.ts';
import type { ExecOp, Meta, ProxyEnv } from '../llb/ops.ts';
import type { CacheMap, Op, OpContext, PlaceRequest } from '../solver/types.ts';
import { type ExecMountServices, type PreparedMounts, prepareMounts, releaseAll } from './exec-mounts.ts';
import { leaveExec } from './failed-step.ts';
import { secretEnvironment } from './secret-mount.ts';
import { StepLog, type StepLogLimits } from './step-log.ts';

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const NETWORK = ['unset', 'host', 'none'] as const;
const INSECURE = 1;

type Sessions = () => readonly string[];

export interface ExecOpServices extends Omit<ExecMountServices, 'getSecret' | 'forwardSsh'> {
  readonly executor: Executor;
  /** Sets up devices that a step asks for. */
  readonly devices: Pick<DeviceRegistry, 'prepare'>;
  /** Path of the program that must run the step, when the machine cannot. */
  readonly emulator: () => Promise<string | undefined>;
  /** Secrets of the clients of some sessions. */
  readonly secrets: (sessions: Sessions) => ExecMountServices['getSecret'];
  readonly ssh: (sessions: Sessions) => ExecMountServices['forwardSsh'];
  readonly cacheMap: (op: ExecOp) => CacheMap<ImmutableRef>;
  readonly acquire: (place: PlaceRequest) => Promise<Disposable>;
  readonly logLimits?: StepLogLimits;
  readonly tee?: (stream: 1 | 2, data: Uint8Array) => void;
}

/** Runs a process on trees and commits what it wrote (FEATURES D6-D8, G15-G24). */
export class ExecOpRunner implements Op<ImmutableRef> {
  readonly #op: ExecOp;
  readonly #services: ExecOpServices;
  #resources: LinuxResources | undefined;
  #usage: Readonly<Record<string, unknown>> | undefined;

  constructor(op: ExecOp, services: ExecOpServices, resources?: LinuxResources) {
    this.#op = op;
    this.#services = services;
    this.#resources = resources;
  }

  /** Another build wants the same step: until it runs, the more relaxed limits win (FEATURES G13). */
  relax(resources: LinuxResources | undefined): void {
    this.#resources = relaxResources(this.#resources, resources);
  }

  /** What it has used, as provenance has it; undefined when it has not run, or nothing could be measured. */
  get usage(): Readonly<Record<string, unknown>> | undefined {
    return this.#usage;
  }

  async cacheMap(): Promise<{ map: CacheMap<ImmutableRef>; done: boolean }> {
    return { map: this.#services.cacheMap(this.#op), done: true };
  }

  acquire(place: PlaceRequest): Promise<Disposable> {
    return this.#services.acquire(place);
  }

  async exec(
    inputs: readonly (ImmutableRef | null)[],
    context: OpContext,
  ): Promise<readonly (ImmutableRef | null)[]> {
    const op = this.#op;
    if (!op.meta) throw invalidArgument('invalid exec op with no meta');
    const services = {
      ...this.#services,
      getSecret: this.#services.secrets(context.sessions),
      forwardSsh: this.#services.ssh(context.sessions),
    };
    await this.#prepareDevices(context);
    const secrets = await secretEnvironment(op.secretenv, services.getSecret, context.signal);
    const prepared = await prepareMounts(
      { mounts: op.mounts, cwd: op.meta.cwd, name: `exec ${op.meta.args.join(' ')}` },
      inputs,
      services,
      context.signal,
    ).catch(async (error: unknown) => {
      await leaveExec(op, inputs, undefined, context);
      throw error;
    });
    try {
      const emulator = await this.#services.emulator();
      const meta = processMeta(op, op.meta, secrets, prepared.readonlyRoot, this.#resources);
      await this.#run(emulator ? { ...meta, args: [EMULATOR_PATH, ...meta.args] } : meta, context, {
        root: { source: prepared.root, readonly: prepared.readonlyRoot },
        mounts: emulator ? [...prepared.mounts, emulatorMount(emulator)] : prepared.mounts,
      });
    } catch (error) {
      await releaseAll(prepared.cleanup);
      await leaveExec(op, inputs, prepared, context);
      throw error;
    }
    return this.#commit(prepared);
  }

  async #prepareDevices({ progress, signal }: OpContext): Promise<void> {
    const report = (text: string): void => progress.log(2, Buffer.from(text));
    for (const { name } of this.#op.cdiDevices) await this.#services.devices.prepare(name, report, signal);
  }

  async #run(
    meta: ProcessMeta,
    context: OpContext,
    { root, mounts }: Pick<RunRequest, 'root' | 'mounts'>,
  ): Promise<void> {
    const { executor, logLimits, tee } = this.#services;
    const log = new StepLog(context.progress, {
      ...(logLimits ? { limits: logLimits } : {}),
      ...(tee ? { tee } : {}),
    });
    try {
      await executor.run(
        { root, mounts, meta },
        {
          signal: context.signal,
          onStdout: log.stdout,
          onStderr: log.stderr,
          onUsage: (usage) => {
            this.#usage = usage;
          },
        },
      );
    } catch (error) {
      log.flushTail();
      context.signal.throwIfAborted();
      if (exitCodeOf(error) === undefined && !(error instanceof BuildError)) throw error;
      const text = `process ${goQuote(meta.args.join(' '))} did not complete successfully`;
      const wrapped = BuildError.wrap(error, text);
      throw error instanceof ExitError
        ? new ExitError(error.exitCode, wrapped.message, { cause: error, code: wrapped.code })
        : wrapped;
    }
  }

  async #commit(prepared: PreparedMounts): Promise<readonly ImmutableRef[]> {
    const results: ImmutableRef[] = [];
    try {
      for (const { ref } of prepared.outputs) results.push(ref.kind === 'mutable' ? await ref.commit() : ref);
    } catch (error) {
      const rest = prepared.outputs.slice(results.length + 1).map(
        ({ ref }) =>
          () =>
            ref.release(),
      );
      await releaseAll([...results.map((ref) => () => ref.release()), ...rest]);
      throw BuildError.wrap(error, 'error committing');
    } finally {
      await releaseAll([
        ...prepared.cleanup,
        ...prepared.actives.map(
          ({ ref }) =>
            () =>
              ref.release(),
        ),
      ]);
    }
    return results;
  }
}

function processMeta(
  op: ExecOp,
  meta: Meta,
  secretEnv: readonly string[],
  readonlyRootfs: boolean,
  resources: LinuxResources | undefined,
): ProcessMeta {
  const env = [...meta.env, ...proxyEnvironment(meta.proxyEnv)];
  if (!env.some((entry) => entry.startsWith('PATH='))) env.push(DEFAULT_PATH);
  const network = op.network < 0 ? undefined : NETWORK[op.network as 0 | 1 | 2];
  if (!network) throw invalidArgument(`unknown network mode ${op.network}`);
  return {
    args: meta.args,
    env: [...env, ...secretEnv],
    cwd: meta.cwd,
    user: meta.user,
    hostname: meta.hostname,
    readonlyRootfs,
    extraHosts: meta.extraHosts.map(({ Host, IP }) => ({ host: Host, ip: IP })),
    ulimits: meta.ulimit.map(({ Name, Soft, Hard }) => ({ name: Name, soft: Soft, hard: Hard })),
    cgroupParent: meta.cgroupParent,
    network,
    security: op.security === INSECURE ? 'insecure' : 'sandbox',
    ...(meta.validExitCodes.length > 0 ? { validExitCodes: meta.validExitCodes } : {}),
    removeMountStubsRecursive: meta.removeMountStubsRecursive,
    ...(resources ? { resources } : {}),
    ...(op.cdiDevices.length > 0 ? { devices: op.cdiDevices } : {}),
  };
}

/** Each proxy variable in both spellings (FEATURES G6). */
function proxyEnvironment(proxy: ProxyEnv | undefined): string[] {
  if (!proxy) return [];
  const pairs: readonly [string, string][] = [
    ['HTTP_PROXY', proxy.httpProxy],
    ['HTTPS_PROXY', proxy.httpsProxy],
    ['FTP_PROXY', proxy.ftpProxy],
    ['NO_PROXY', proxy.noProxy],
    ['ALL_PROXY', proxy.allProxy],
  ];
  return pairs
    .filter(([, value]) => value !== '')
    .flatMap(([name, value]) => [`${name}=${value}`, `${name.toLowerCase()}=${value}`]);
}
