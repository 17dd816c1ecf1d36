import { BuildError, type BuildErrorOptions } from '../base/errors.ts';
import type { Mount } from '../oci/mount.ts';
import type { DeviceRequest } from './cdi/registry.ts';

/** Something a container can see in its file system: a snapshot, a tmpfs, a directory of secrets. */
export interface Mountable {
  /** What to mount, valid until `release`. */
  mount(readonly: boolean): Promise<{ readonly mounts: readonly Mount[]; release(): Promise<void> }>;
}

export interface ContainerMount {
  /** Absolute path in the container. */
  readonly dest: string;
  readonly readonly: boolean;
  /** Path inside the source; '' or `/` for all of it. Symlinks in it stay inside the source. */
  readonly selector: string;
  readonly source: Mountable;
}

export type NetworkMode = 'unset' | 'host' | 'none';

export interface Ulimit {
  /** `nofile`, … */
  readonly name: string;
  readonly soft: bigint;
  readonly hard: bigint;
}

/** FEATURES G13. Zero and empty mean "not set". */
export interface LinuxResources {
  readonly memory: bigint;
  readonly memorySwap: bigint;
  readonly cpuShares: bigint;
  readonly cpuPeriod: bigint;
  readonly cpuQuota: bigint;
  readonly cpusetCpus: string;
  readonly cpusetMems: string;
}

/** What runs and in which surroundings. */
export interface ProcessMeta {
  readonly args: readonly string[];
  /** `NAME=value`. */
  readonly env: readonly string[];
  readonly cwd: string;
  /** `user[:group]`, names or ids; '' is root. */
  readonly user?: string;
  /** '' gives the default, `buildkitsandbox`. */
  readonly hostname?: string;
  readonly readonlyRootfs?: boolean;
  readonly extraHosts?: readonly { readonly host: string; readonly ip: string }[];
  readonly ulimits?: readonly Ulimit[];
  readonly cgroupParent?: string;
  readonly network?: NetworkMode;
  readonly security?: 'sandbox' | 'insecure';
  /** Codes that count as success; undefined means 0 alone. */
  readonly validExitCodes?: readonly number[];
  /** Also remove directories made only to hold a mount point. */
  readonly removeMountStubsRecursive?: boolean;
  readonly resources?: LinuxResources;
  /** CDI devices, resolved and allowed already; see `cdi/registry.ts` for the forms of names. */
  readonly devices?: readonly DeviceRequest[];
  /** A terminal instead of pipes: all output comes on stdout. */
  readonly tty?: boolean;
}

export interface RunRequest {
  /** Letters and digits only; random when absent. */
  readonly id?: string;
  readonly root: { readonly source: Mountable; readonly readonly: boolean };
  /** Below the root, in the order to mount them. */
  readonly mounts: readonly ContainerMount[];
  readonly meta: ProcessMeta;
}

export interface RunIo {
  /** Aborting kills the container (SIGKILL); `run` settles when it and its mounts are gone. */
  readonly signal: AbortSignal;
  /** Chunks as read, at most 32 KiB, the receiver's to keep. A returned promise holds back further output. */
  readonly onStdout?: (chunk: Uint8Array) => void | Promise<void>;
  readonly onStderr?: (chunk: Uint8Array) => void | Promise<void>;
  readonly stdin?: AsyncIterable<Uint8Array>;
  /** What the step has used: `{samples, sysCPUStat}` of provenance. Not called where nothing can be measured. */
  readonly onUsage?: (usage: Readonly<Record<string, unknown>>) => void;
  /** The container's process is about to run. */
  readonly onStarted?: (control: ProcessControl) => void;
}

/** A process while it runs; what comes later is ignored. */
export interface ProcessControl {
  /** Resolves when it is sent: a process that is being started is waited for. */
  signal(name: NodeJS.Signals): Promise<void>;
  /** Of its terminal, if it has one. */
  resize(rows: number, columns: number): Promise<void>;
}

/** One more process in a container. Environment and directory are its own; no user: that of the first one. */
export type ExecRequest = Pick<ProcessMeta, 'args' | 'env' | 'cwd' | 'user' | 'tty'>;

/** Runs processes in containers. */
export interface Executor {
  /**
   * Runs one process to its end. Resolves when its exit code counts as success; everything mounted or made
   * for it is gone by then.
   * @throws ExitError when the process ended otherwise or was killed; BuildError when it could not be set up
   */
  run(request: RunRequest, io: RunIo): Promise<void>;
  /**
   * Runs one more process in the container of a `run` that has begun, once it is up; ends with that at the latest.
   * @throws as `run`; BuildError when the container has ended
   */
  exec(id: string, request: ExecRequest, io: RunIo): Promise<void>;
}

/** Exit code of a process that did not start or whose end is unknown. */
export const UNKNOWN_EXIT_CODE = 255;

/** A container's process failed (FEATURES G23). */
export class ExitError extends BuildError {
  readonly exitCode: number;

  /** @param reason replaces `exit code: N` as the message. */
  constructor(exitCode: number, reason?: string, options: BuildErrorOptions = {}) {
    super(reason ?? `exit code: ${exitCode}`, {
      ...options,
      details: [...(options.details ?? []), { type: 'gatewayapi.ExitMessage', value: { Code: exitCode } }],
    });
    this.name = 'ExitError';
    this.exitCode = exitCode;
  }
}

/** Exit code of the ExitError in an error's chain of causes. */
export function exitCodeOf(error: unknown): number | undefined {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof ExitError) return at.exitCode;
  return undefined;
}
