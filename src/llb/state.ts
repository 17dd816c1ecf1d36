import type { Platform } from '../oci/platform.ts';
import { joinPath } from './gopath.ts';
import type { Output } from './node.ts';
import { NetMode, SecurityMode } from './ops.ts';
import { normalizePlatform } from './platform.ts';

/**
 * A file tree to be, with the settings that steps run in it start from. An immutable value: every function
 * here and in `source.ts`, `exec.ts`, `file.ts` and `combine.ts` gives a new one. `marshal` (marshal.ts) turns
 * it into the LLB definition that a build daemon solves; equal graphs give equal bytes, the same as those of
 * BuildKit's own clients (FEATURES D17-D21).
 *
 *     const base = setEnv(image('docker.io/library/alpine:latest'), 'A', 'b');
 *     const context = local('context', { sharedKeyHint: 'context' });
 *     const copied = file(base, [copy(context, '/src', '/app/', { createDestPath: true })], {
 *       customName: 'COPY src /app/',
 *     });
 *     const built = run(setDir(copied, '/app'), {
 *       args: ['/bin/sh', '-c', 'make'],
 *       mounts: [{ dest: '/cache', cache: { id: 'c', sharing: 'locked' } }],
 *     });
 *     const definition = marshal(built.root, { platform, localUniqueId, caps });
 */
export interface State {
  /** null is the empty tree. */
  readonly output: Output | null;
  /** Variables in the order in which they were last set. */
  readonly env: readonly (readonly [key: string, value: string])[];
  /** Absolute; relative paths of steps start here. */
  readonly dir: string;
  readonly user: string;
  readonly hostname: string;
  readonly platform: Platform | undefined;
  readonly network: NetMode;
  readonly security: SecurityMode;
  readonly extraHosts: readonly ExtraHost[];
  readonly ulimits: readonly Ulimit[];
  readonly cgroupParent: string;
  readonly validExitCodes: readonly number[] | undefined;
  readonly values?: ReadonlyMap<unknown, unknown>;
}

export interface ExtraHost {
  readonly host: string;
  readonly ip: string;
}

/** A limit as setrlimit(2) takes it; `name` is `nofile`, `core`, … */
export interface Ulimit {
  readonly name: string;
  readonly soft: bigint;
  readonly hard: bigint;
}

const EMPTY: State = Object.freeze({
  output: null,
  env: [],
  dir: '/',
  user: '',
  hostname: '',
  platform: undefined,
  network: NetMode.UNSET,
  security: SecurityMode.SANDBOX,
  extraHosts: [],
  ulimits: [],
  cgroupParent: '',
  validExitCodes: undefined,
});

/** The empty tree. */
export function scratch(): State {
  return EMPTY;
}

/** A tree with the default settings. `platform` is that of the step which makes it, if it names one. */
export function stateOf(output: Output | null, platform?: Platform): State {
  return withOutput(EMPTY, output, platform);
}

/** The settings of `state` on another tree. */
export function withOutput(state: State, output: Output | null, platform?: Platform): State {
  const moved = Object.freeze({ ...state, output });
  return platform ? setPlatform(moved, platform) : moved;
}

/**
 * The tree of `state` with the settings of `other`, in which either the directory is the root again or the platform
 * is that of the step which makes the tree, if it names one (as BuildKit's own client has it).
 */
export function reset(state: State, other: State): State {
  const { output } = state;
  const kind = output?.node.kind;
  const own = kind === 'source' || kind === 'exec' ? output?.node.constraints.platform : undefined;
  const moved = Object.freeze({ ...other, output });
  return own ? setPlatform(moved, own) : setDir(moved, '/');
}

/** Anything that programs keep with a state; no step sees it. */
export function setValue(state: State, key: unknown, value: unknown): State {
  return Object.freeze({ ...state, values: new Map([...(state.values ?? []), [key, value]]) });
}

export function setEnv(state: State, key: string, value: string): State {
  const others = state.env.filter(([name]) => name !== key);
  return Object.freeze({ ...state, env: [...others, [key, value] as const] });
}

export function getEnv(state: State, key: string): string | undefined {
  return state.env.find(([name]) => name === key)?.[1];
}

/** A relative `dir` goes on from the present one. */
export function setDir(state: State, dir: string): State {
  return Object.freeze({ ...state, dir: dir.startsWith('/') ? dir : joinPath(state.dir || '/', dir) });
}

export function setUser(state: State, user: string): State {
  return Object.freeze({ ...state, user });
}

export function setHostname(state: State, hostname: string): State {
  return Object.freeze({ ...state, hostname });
}

export function setPlatform(state: State, platform: Platform): State {
  return Object.freeze({ ...state, platform: normalizePlatform(platform) });
}

export function setNetwork(state: State, network: NetMode): State {
  return Object.freeze({ ...state, network });
}

export function setSecurity(state: State, security: SecurityMode): State {
  return Object.freeze({ ...state, security });
}

export function addExtraHost(state: State, host: string, ip: string): State {
  return Object.freeze({ ...state, extraHosts: [...state.extraHosts, { host, ip }] });
}

export function addUlimit(state: State, ulimit: Ulimit): State {
  return Object.freeze({ ...state, ulimits: [...state.ulimits, ulimit] });
}

export function setCgroupParent(state: State, cgroupParent: string): State {
  return Object.freeze({ ...state, cgroupParent });
}

export function setValidExitCodes(state: State, codes: readonly number[]): State {
  return Object.freeze({ ...state, validExitCodes: codes });
}

/** What of an image's config a state takes over. */
export interface ImageSettings {
  readonly env?: readonly string[];
  readonly workingDir?: string;
  readonly platform?: Platform;
}

export function withImageSettings(state: State, settings: ImageSettings): State {
  let next = state;
  for (const entry of settings.env ?? []) {
    const at = entry.indexOf('=');
    const key = at < 0 ? entry : entry.slice(0, at);
    if (key !== '') next = setEnv(next, key, at < 0 ? '' : entry.slice(at + 1));
  }
  next = setDir(next, settings.workingDir ?? '');
  return settings.platform ? setPlatform(next, settings.platform) : next;
}
