import { invalidArgument } from '../base/errors.ts';
import { compareText } from './gopath.ts';
import type { Constraints, ExecMountNode, ExecNode, Output } from './node.ts';
import {
  type CDIDevice,
  CacheSharingOpt,
  type ExecOp,
  MountContentCache,
  MountType,
  type Mount as MountMessage,
  NetMode,
  type ProxyEnv,
  SecurityMode,
} from './ops.ts';
import { type State, setEnv, withOutput } from './state.ts';

const NO_INDEX = -1n;

export interface RunOptions {
  /** Program and arguments; the settings of the state give the rest. */
  readonly args: readonly string[];
  /** Changes the settings for this step only. */
  readonly with?: (state: State) => State;
  readonly readonlyRoot?: boolean;
  readonly mounts?: readonly MountOptions[];
  readonly secrets?: readonly SecretOptions[];
  readonly ssh?: readonly SshOptions[];
  readonly cdiDevices?: readonly CDIDevice[];
  /** Proxy variables, which do not change the step's cache key. */
  readonly proxyEnv?: Partial<ProxyEnv>;
  readonly constraints?: Constraints;
}

export interface MountOptions {
  readonly dest: string;
  /** What is mounted; the empty tree when absent. */
  readonly from?: State;
  /** Path within `from`. */
  readonly selector?: string;
  readonly readonly?: boolean;
  /** Changes are dropped and nothing can be built on them. */
  readonly noOutput?: boolean;
  readonly cache?: { readonly id: string; readonly sharing?: 'shared' | 'private' | 'locked' };
  readonly tmpfs?: { readonly sizeBytes?: bigint };
  readonly contentCache?: 'on' | 'off';
}

/** A secret as a file (`target`), a variable (`env`) or both. Mode is 0400 by default. */
export interface SecretOptions {
  readonly id: string;
  readonly target?: string;
  readonly env?: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly mode?: number;
  readonly optional?: boolean;
}

/** An agent's socket, at `/run/buildkit/ssh_agent.<n>` with mode 0600 by default. */
export interface SshOptions {
  readonly id?: string;
  readonly target?: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly mode?: number;
  readonly optional?: boolean;
}

export interface RunResult {
  /** The root tree after the run, with the settings of the state that was run. */
  readonly root: State;
  /** A mount after the run. @throws when it gives no output. */
  mount(dest: string): State;
}

/** Runs a program in `state`. */
export function run(state: State, options: RunOptions): RunResult {
  const ssh = (options.ssh ?? []).map((socket, i) => ({
    ...socket,
    target: socket.target || `/run/buildkit/ssh_agent.${i}`,
  }));
  let settings = options.with ? options.with(state) : state;
  const [firstSocket] = ssh;
  if (firstSocket && !settings.env.some(([key]) => key === 'SSH_AUTH_SOCK')) {
    settings = setEnv(settings, 'SSH_AUTH_SOCK', firstSocket.target);
  }
  const root: MountOptions = { dest: '/', from: settings, readonly: options.readonlyRoot ?? false };
  const all = [root, ...(options.mounts ?? [])];
  const node: ExecNode = {
    kind: 'exec',
    exec: execMessage(settings, options, ssh),
    mounts: mountNodes(all),
    lacksPath: !settings.env.some(([key]) => key === 'PATH'),
    basePlatform: settings.platform,
    caps: capsOf(settings, options, all),
    constraints: options.constraints ?? {},
  };
  return {
    root: outcome(state, node, '/'),
    mount: (dest) => outcome(all.find((mount) => mount.dest === dest)?.from ?? state, node, dest),
  };
}

function outcome(state: State, node: ExecNode, dest: string): State {
  const mount = node.mounts.find((m) => m.dest === dest);
  if (!mount) throw invalidArgument(`invalid mount: ${dest}`);
  if (mount.readonly) return withOutput(state, mount.input);
  if (mount.output >= 0) return withOutput(state, { node, index: mount.output }, node.constraints.platform);
  if (mount.message.mountType === MountType.TMPFS)
    throw invalidArgument(`tmpfs mount for ${dest} can't be used as a parent`);
  if (mount.message.mountType === MountType.CACHE) throw invalidArgument(`invalid mount: ${dest}`);
  throw invalidArgument(`mount marked no-output and ${dest} can't be used as a parent`);
}

function execMessage(
  settings: State,
  options: RunOptions,
  ssh: readonly (SshOptions & { readonly target: string })[],
): ExecOp {
  const secrets = options.secrets ?? [];
  return {
    meta: {
      args: [...options.args],
      env: settings.env.map(([key, value]) => `${key}=${value}`),
      cwd: settings.dir,
      user: settings.user,
      proxyEnv: options.proxyEnv && { ...NO_PROXY, ...options.proxyEnv },
      extraHosts: settings.extraHosts.map(({ host, ip }) => ({ Host: host, IP: ip })),
      hostname: settings.hostname,
      ulimit: settings.ulimits.map(({ name, soft, hard }) => ({ Name: name, Soft: soft, Hard: hard })),
      cgroupParent: settings.cgroupParent,
      removeMountStubsRecursive: true,
      validExitCodes: [...(settings.validExitCodes ?? [])],
    },
    mounts: [...secrets.flatMap(secretMount), ...ssh.map(sshMount)],
    network: settings.network,
    security: settings.security,
    secretenv: secrets.flatMap(({ id, env, optional }) =>
      env === undefined ? [] : { ID: id, name: env, optional: optional ?? false },
    ),
    cdiDevices: [...(options.cdiDevices ?? [])],
  };
}

const NO_PROXY: ProxyEnv = { httpProxy: '', httpsProxy: '', ftpProxy: '', noProxy: '', allProxy: '' };

/** Outputs are numbered in the order of the sorted mounts. */
function mountNodes(mounts: readonly MountOptions[]): ExecMountNode[] {
  let outputs = 0;
  return mounts
    .toSorted((a, b) => compareText(a.dest, b.dest))
    .map((mount): ExecMountNode => {
      const input: Output | null = mount.from?.output ?? null;
      if (mount.tmpfs && input) throw invalidArgument('tmpfs mounts must use scratch');
      const silent =
        mount.noOutput || mount.readonly || mount.cache !== undefined || mount.tmpfs !== undefined;
      const output = silent ? -1 : outputs++;
      return {
        input,
        dest: mount.dest,
        selector: mount.selector ?? '',
        readonly: mount.readonly ?? false,
        output,
        message: mountMessage(mount, output),
      };
    });
}

function mountMessage(mount: MountOptions, output: number): MountMessage {
  const { cache, tmpfs } = mount;
  return {
    ...emptyMount(mount.dest),
    output: BigInt(output),
    selector: mount.selector ?? '',
    readonly: mount.readonly ?? false,
    mountType: tmpfs ? MountType.TMPFS : cache ? MountType.CACHE : MountType.BIND,
    TmpfsOpt: tmpfs && { size: tmpfs.sizeBytes ?? 0n },
    cacheOpt: cache && { ID: cache.id, sharing: SHARING[cache.sharing ?? 'shared'] },
    contentCache: mount.contentCache ? CONTENT_CACHE[mount.contentCache] : MountContentCache.DEFAULT,
  };
}

const SHARING = {
  shared: CacheSharingOpt.SHARED,
  private: CacheSharingOpt.PRIVATE,
  locked: CacheSharingOpt.LOCKED,
};
const CONTENT_CACHE = { on: MountContentCache.ON, off: MountContentCache.OFF };

function emptyMount(dest: string): MountMessage {
  return {
    input: NO_INDEX,
    selector: '',
    dest,
    output: 0n,
    readonly: false,
    mountType: MountType.BIND,
    TmpfsOpt: undefined,
    cacheOpt: undefined,
    secretOpt: undefined,
    SSHOpt: undefined,
    resultID: '',
    contentCache: MountContentCache.DEFAULT,
  };
}

function secretMount(secret: SecretOptions): MountMessage[] {
  if (secret.target === undefined) return [];
  const secretOpt = {
    ID: secret.id,
    uid: secret.uid ?? 0,
    gid: secret.gid ?? 0,
    mode: secret.mode ?? 0o400,
    optional: secret.optional ?? false,
  };
  return [{ ...emptyMount(secret.target), mountType: MountType.SECRET, secretOpt }];
}

function sshMount(socket: SshOptions & { readonly target: string }): MountMessage {
  const SSHOpt = {
    ID: socket.id ?? '',
    uid: socket.uid ?? 0,
    gid: socket.gid ?? 0,
    mode: socket.mode ?? 0o600,
    optional: socket.optional ?? false,
  };
  return { ...emptyMount(socket.target), mountType: MountType.SSH, SSHOpt };
}

function capsOf(settings: State, options: RunOptions, mounts: readonly MountOptions[]): string[] {
  const secrets = options.secrets ?? [];
  const needs: [needed: boolean, cap: string][] = [
    [true, 'exec.meta.base'],
    [settings.validExitCodes !== undefined, 'exec.validexitcode'],
    [settings.ulimits.length > 0, 'exec.meta.ulimit'],
    [options.constraints?.linuxResources !== undefined, 'exec.meta.linux.resources'],
    [settings.network !== NetMode.UNSET, 'exec.meta.network'],
    [settings.security === SecurityMode.INSECURE, 'exec.meta.security'],
    [options.proxyEnv !== undefined, 'exec.meta.proxyenv'],
    [mounts.some((m) => m.selector), 'exec.mount.selector'],
    [mounts.some((m) => m.cache), 'exec.mount.cache'],
    [mounts.some((m) => m.cache), 'exec.mount.cache.sharing'],
    [mounts.some((m) => m.tmpfs && !m.cache), 'exec.mount.tmpfs'],
    [mounts.some((m) => m.tmpfs?.sizeBytes && !m.cache), 'exec.mount.tmpfs.size'],
    [mounts.some((m) => m.from?.output && !m.cache && !m.tmpfs), 'exec.mount.bind'],
    [mounts.some((m) => m.contentCache), 'exec.mount.cache.content'],
    [secrets.length > 0, 'exec.mount.secret'],
    [secrets.some((s) => s.env !== undefined), 'exec.secretenv'],
    [(options.ssh ?? []).length > 0, 'exec.mount.ssh'],
    [(options.cdiDevices ?? []).length > 0, 'exec.meta.cdi'],
  ];
  return needs.flatMap(([needed, cap]) => (needed ? [cap] : []));
}
