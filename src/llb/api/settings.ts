import { invalidArgument } from '../../base/errors.ts';
import { shortestIp } from '../ip.ts';
import { NetMode, SecurityMode } from '../ops.ts';
import * as tree from '../state.ts';
import { int, type Platform } from './options.ts';

/** Where the network of a run ends: in a sandbox, at the host, or at itself. */
export type Network = 'sandbox' | 'host' | 'none';

/** Whether a run has all the rights of the daemon. */
export type Security = 'sandbox' | 'insecure';

/** Name of a limit of setrlimit(2). */
export type UlimitName =
  | 'core'
  | 'cpu'
  | 'data'
  | 'fsize'
  | 'locks'
  | 'memlock'
  | 'msgqueue'
  | 'nice'
  | 'nofile'
  | 'nproc'
  | 'rss'
  | 'rtprio'
  | 'rttime'
  | 'sigpending'
  | 'stack';

/** A limit as setrlimit(2) takes it. */
export interface Ulimit {
  readonly name: UlimitName;
  readonly soft: number | bigint;
  readonly hard: number | bigint;
}

/** A line of /etc/hosts. */
export interface ExtraHost {
  readonly host: string;
  readonly ip: string;
}

/** What runs start from, and what of it is set for one run only. */
export interface RunSettings {
  /** Meta `env`, added to what there is; a name that is there moves to the end. */
  readonly env?: Readonly<Record<string, string>>;
  /** Meta `cwd`; a relative one goes on from the present one. */
  readonly dir?: string;
  /** Meta `user`: `name`, `uid`, `name:group`, `uid:gid`. */
  readonly user?: string;
  /** Meta `hostname`. */
  readonly hostname?: string;
  /** ExecOp `network`. */
  readonly network?: Network;
  /** ExecOp `security`; `insecure` needs the entitlement `security.insecure`. */
  readonly security?: Security;
  /** Meta `extraHosts`, added to what there is. */
  readonly extraHosts?: readonly ExtraHost[];
  /** Meta `ulimit`, added to what there is. */
  readonly ulimits?: readonly Ulimit[];
  /** Meta `cgroupParent`. */
  readonly cgroupParent?: string;
  /** Meta `validExitCodes`: the run is good when it ends with one of them; 0 alone when left out. */
  readonly validExitCodes?: readonly number[];
}

/** What a state says about the runs in it. */
export interface Settings {
  /** In the order in which they were last set. */
  readonly env: Readonly<Record<string, string>>;
  readonly dir: string;
  readonly user: string;
  readonly hostname: string;
  /** Undefined when nothing says it: that of the marshal then. */
  readonly platform: Platform | undefined;
  readonly network: Network;
  readonly security: Security;
  readonly extraHosts: readonly ExtraHost[];
  readonly ulimits: readonly { readonly name: string; readonly soft: bigint; readonly hard: bigint }[];
  readonly cgroupParent: string;
  readonly validExitCodes: readonly number[] | undefined;
}

const NETWORKS: Readonly<Record<Network, NetMode>> = {
  sandbox: NetMode.UNSET,
  host: NetMode.HOST,
  none: NetMode.NONE,
};
const SECURITIES: Readonly<Record<Security, SecurityMode>> = {
  sandbox: SecurityMode.SANDBOX,
  insecure: SecurityMode.INSECURE,
};

/** @internal */
export function withSettings(state: tree.State, settings: RunSettings): tree.State {
  let next = state;
  for (const [key, value] of Object.entries(settings.env ?? {})) next = withEnv(next, key, value);
  if (settings.dir !== undefined) next = tree.setDir(next, settings.dir);
  if (settings.user !== undefined) next = tree.setUser(next, settings.user);
  if (settings.hostname !== undefined) next = tree.setHostname(next, settings.hostname);
  if (settings.network !== undefined) next = tree.setNetwork(next, NETWORKS[settings.network]);
  if (settings.security !== undefined) next = tree.setSecurity(next, SECURITIES[settings.security]);
  for (const { host, ip } of settings.extraHosts ?? []) {
    const short = shortestIp(ip);
    if (short === undefined) throw invalidArgument(`failed to parse IP ${ip}`);
    next = tree.addExtraHost(next, host, short);
  }
  for (const { name, soft, hard } of settings.ulimits ?? [])
    next = tree.addUlimit(next, { name, soft: int(soft, name), hard: int(hard, name) });
  if (settings.cgroupParent !== undefined) next = tree.setCgroupParent(next, settings.cgroupParent);
  if (settings.validExitCodes !== undefined) next = tree.setValidExitCodes(next, settings.validExitCodes);
  return next;
}

function withEnv(state: tree.State, key: string, value: string): tree.State {
  if (key === '' || key.includes('=')) throw invalidArgument(`no name of a variable: ${JSON.stringify(key)}`);
  return tree.setEnv(state, key, value);
}

/** @internal */
export function settingsOf(state: tree.State): Settings {
  const nameOf = <K extends string>(names: Readonly<Record<K, number>>, value: number): K =>
    Object.entries(names).find(([, known]) => known === value)![0] as K;
  const { dir, user, hostname, platform, extraHosts, ulimits, cgroupParent, validExitCodes } = state;
  return {
    env: Object.fromEntries(state.env),
    dir,
    user,
    hostname,
    platform,
    network: nameOf(NETWORKS, state.network),
    security: nameOf(SECURITIES, state.security),
    extraHosts,
    ulimits,
    cgroupParent,
    validExitCodes,
  };
}

/** An image config as JSON text or bytes, or parsed. */
export type ImageConfig = Uint8Array | string | object;

interface ConfigJson {
  readonly config?: { readonly Env?: readonly string[] | null; readonly WorkingDir?: string } | null;
  readonly os?: string;
  readonly architecture?: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[] | null;
}

/** @internal */
export function withConfig(state: tree.State, config: ImageConfig): tree.State {
  const json = parseConfig(config);
  const { os, architecture, variant } = json;
  return tree.withImageSettings(state, {
    env: json.config?.Env ?? [],
    workingDir: json.config?.WorkingDir ?? '',
    ...(os && architecture
      ? {
          platform: {
            os,
            architecture,
            ...(variant ? { variant } : {}),
            ...(json['os.version'] ? { osVersion: json['os.version'] } : {}),
            ...(json['os.features'] ? { osFeatures: json['os.features'] } : {}),
          },
        }
      : {}),
  });
}

function parseConfig(config: ImageConfig): ConfigJson {
  if (typeof config !== 'string' && !(config instanceof Uint8Array)) return config;
  try {
    const json: unknown = JSON.parse(typeof config === 'string' ? config : new TextDecoder().decode(config));
    if (typeof json === 'object' && json !== null) return json;
  } catch (error) {
    throw invalidArgument('the image config is not JSON', error);
  }
  throw invalidArgument('the image config is no JSON object');
}
