import { invalidArgument } from '../../base/errors.ts';
import type { MountOptions, RunOptions as InnerRunOptions, SecretOptions, SshOptions } from '../exec.ts';
import type { Constraints } from '../node.ts';
import { splitWords } from '../shlex.ts';
import { LAZY, Lazy } from './lazy.ts';
import type { Mounts } from './mounts.ts';
import { constraintsOf, type StepOptions } from './options.ts';
import type { RunSettings } from './settings.ts';

/** Who may read a secret or a socket. */
interface Access {
  readonly uid?: number;
  readonly gid?: number;
  readonly mode?: number;
}

/**
 * A secret of the client: a file (ExecOp mount of type SECRET, mode 0400 unless said) at `target`, a variable
 * (ExecOp `secretenv`) named `env`, or both.
 */
export type Secret = {
  /** By which the client knows it. */
  readonly id: string;
  /** The run goes on without it when the client does not have it. */
  readonly optional?: boolean;
} & (
  | ({ readonly target: string; readonly env?: string } & Access)
  | ({ readonly env: string; readonly target?: never } & { readonly [K in keyof Access]?: never })
);

/**
 * The client's ssh agent: ExecOp mount of type SSH, mode 0600 unless said. SSH_AUTH_SOCK is set to the first one unless
 * the state has it.
 */
export interface SshSocket extends Access {
  /** By which the client knows the agent; its default one when left out. */
  readonly id?: string;
  /** `/run/buildkit/ssh_agent.<n>` when left out. */
  readonly target?: string;
  /** The run goes on without it when the client has no agent. */
  readonly optional?: boolean;
}

/** A device by its CDI name, `vendor.com/class=name`: ExecOp `cdiDevices`. */
export interface Device {
  readonly name: string;
  readonly optional?: boolean;
}

/** Variables of proxies, in both spellings; they do not change the step's cache key: Meta `proxy_env`. */
export interface Proxy {
  readonly httpProxy?: string;
  readonly httpsProxy?: string;
  readonly ftpProxy?: string;
  readonly noProxy?: string;
  readonly allProxy?: string;
}

/** All about one run: what is mounted, settings for this run only, what is said about the step. */
export interface RunOptions<M extends Mounts = Mounts> extends StepOptions, RunSettings {
  /** By destination. */
  readonly mounts?: M;
  readonly secrets?: readonly Secret[];
  readonly ssh?: readonly SshSocket[];
  readonly devices?: readonly Device[];
  readonly proxy?: Proxy;
  /** The root mount is `readonly`: the run changes nothing but its mounts, and has no root of its own. */
  readonly readonlyRoot?: boolean;
}

/** A command: words, or a text that is split into words as a POSIX shell does; nothing is expanded and no shell runs. */
export type Command = string | readonly string[];

/**
 * The words that run `script` in `/bin/sh`, for `State.run`: `['/bin/sh', '-c', script]`. Pipes, `&&` and variables work.
 */
export function shell(script: string): readonly string[] {
  return ['/bin/sh', '-c', script];
}

/** @internal */
export function argsOf(command: Command): readonly string[] {
  const args = typeof command === 'string' ? splitWords(command) : command;
  if (args.length === 0) throw invalidArgument('arguments are required');
  return args;
}

/** Without `with`. @internal */
export function runOptionsOf(command: Command, options: RunOptions): Lazy<InnerRunOptions> {
  const args = argsOf(command);
  const mounts = Object.entries(options.mounts ?? {}).map(([dest, mount]) => {
    if (mount === undefined || !dest.startsWith('/') || dest === '/')
      throw invalidArgument(`a mount needs an absolute path other than the root: ${JSON.stringify(dest)}`);
    return mount[LAZY].map((mounted) => ({ ...mounted, dest }));
  });
  const { secrets, ssh, devices, proxy, readonlyRoot } = options;
  return Lazy.all<[Constraints, readonly MountOptions[]], InnerRunOptions>(
    [constraintsOf(options), Lazy.all<MountOptions[], readonly MountOptions[]>(mounts, (...all) => all)],
    (constraints, all) => ({
      args,
      mounts: all,
      constraints,
      ...(secrets ? { secrets: secrets as readonly SecretOptions[] } : {}),
      ...(ssh ? { ssh: ssh as readonly SshOptions[] } : {}),
      ...(devices ? { cdiDevices: devices.map(({ name, optional = false }) => ({ name, optional })) } : {}),
      ...(proxy ? { proxyEnv: proxy } : {}),
      ...(readonlyRoot === undefined ? {} : { readonlyRoot }),
    }),
  );
}
