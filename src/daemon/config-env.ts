import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { invalidArgument } from '../base/errors.ts';
import { parseBool } from '../base/flags.ts';

export type Env = Readonly<Record<string, string | undefined>>;

/** What the daemon reads from its environment beside flags (FEATURES A57). */
export interface DaemonEnv {
  /** Copy the output of steps to the daemon's own. */
  readonly debugExecOutput: boolean;
  /** Bytes of log kept of a step's stream; undefined = default, -1 = no limit. */
  readonly stepLogMaxSize: number | undefined;
  /** Bytes per second; undefined = default, -1 = no limit. */
  readonly stepLogMaxSpeed: number | undefined;
  readonly schedulerDebug: boolean;
  readonly forceOverlayDiff: boolean | undefined;
  /** Move the daemon into `/init` of its cgroup and hand out the controllers. */
  readonly setupCgroupV2Root: boolean;
  /** Lock file around the initialization of CNI. */
  readonly cniInitLockPath: string;
  /** Socket of the service manager that wants to hear READY=1. */
  readonly notifySocket: string;
  /** GitHub's REST API: of a server of one's own, where runners say so. */
  readonly githubApi: string;
  /** Sockets passed by the service manager, from descriptor 3 on. */
  readonly listenFds: number;
}

export function daemonEnv(env: Env): DaemonEnv {
  const on = (name: string): boolean => parseBool(env[name] ?? '') === true;
  const number = (name: string): number | undefined => {
    const text = env[name] ?? '';
    return /^-?\d+$/.test(text) ? Number(text) : undefined;
  };
  return {
    debugExecOutput: env.BUILDKIT_DEBUG_EXEC_OUTPUT === '1',
    stepLogMaxSize: number('BUILDKIT_STEP_LOG_MAX_SIZE'),
    stepLogMaxSpeed: number('BUILDKIT_STEP_LOG_MAX_SPEED'),
    schedulerDebug: env.BUILDKIT_SCHEDULER_DEBUG === '1',
    forceOverlayDiff: parseBool(env.BUILDKIT_DEBUG_FORCE_OVERLAY_DIFF ?? ''),
    setupCgroupV2Root: on('BUILDKIT_SETUP_CGROUPV2_ROOT'),
    cniInitLockPath: env.BUILDKIT_CNI_INIT_LOCK_PATH ?? '',
    githubApi: env.GITHUB_API_URL || 'https://api.github.com',
    notifySocket: env.NOTIFY_SOCKET ?? '',
    listenFds: env.LISTEN_PID === String(process.pid) ? (number('LISTEN_FDS') ?? 0) : 0,
  };
}

export interface DefaultPaths {
  readonly root: string;
  readonly address: string;
  readonly config: string;
  readonly provenanceEnv: string;
  readonly cniConfig: string;
  readonly cniBinaries: string;
}

/** The places of root's daemon, or of a user's inside a user namespace (FEATURES A41). */
export function defaultPaths(env: Env, userNamespace: boolean): DefaultPaths {
  const system: DefaultPaths = {
    root: '/var/lib/buildkit',
    address: 'unix:///run/buildkit/buildkitd.sock',
    config: '/etc/buildkit/buildkitd.toml',
    provenanceEnv: '/etc/buildkit/provenance.d',
    cniConfig: '/etc/buildkit/cni.json',
    cniBinaries: '/opt/cni/bin',
  };
  const user = env.USER ?? '';
  if (!userNamespace || user === '' || user === 'root') return system;
  const first = (list: string | undefined): string => (list ?? '').split(':')[0] ?? '';
  const home = env.HOME ?? '';
  const data = first(env.XDG_DATA_HOME) || (home && join(home, '.local', 'share'));
  const settings = (env.XDG_CONFIG_HOME ?? '') || (home && join(home, '.config'));
  const runtime = first(env.XDG_RUNTIME_DIR);
  return {
    ...system,
    ...(data ? { root: join(data, 'buildkit') } : {}),
    ...(runtime ? { address: `unix://${join(runtime, 'buildkit', 'buildkitd.sock')}` } : {}),
    ...(settings
      ? {
          config: join(settings, 'buildkit', 'buildkitd.toml'),
          provenanceEnv: join(settings, 'buildkit', 'provenance.d'),
          cniConfig: join(settings, 'buildkit', 'cni.json'),
        }
      : {}),
  };
}

/** True unless user ids are those of the machine. */
export function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));
  } catch {
    return false; // no user namespaces here
  }
}

/** Group id of a name or number. */
export function gidOf(group: string): number {
  if (/^\d+$/.test(group)) return Number(group);
  let text = '';
  try {
    text = readFileSync('/etc/group', 'utf8');
  } catch {
    // no such file: no such group
  }
  for (const line of text.split('\n')) {
    const [name, , gid] = line.split(':');
    if (name === group && gid !== undefined) return Number(gid);
  }
  throw invalidArgument(`group: unknown group ${group}`);
}
