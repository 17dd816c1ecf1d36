import { BuildError, errno } from '../../base/errors.ts';
import { errnoText } from '../../sys/errno.ts';
import { type FileStat, lstat, S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT } from '../../sys/stat.ts';
import type { SpecMount } from '../spec.ts';
import type { CdiHook, ContainerEdits, DeviceNode } from './spec.ts';

/** The parts of a runtime spec that devices change. */
export interface EditableSpec {
  readonly process: {
    readonly env: readonly string[];
    readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids: readonly number[] };
  };
  readonly mounts: readonly SpecMount[];
  readonly hooks?: Readonly<Record<string, readonly unknown[]>>;
  readonly linux: {
    readonly devices?: readonly { readonly path: string }[];
    readonly resources: { readonly devices: readonly unknown[] };
    readonly netDevices?: Readonly<Record<string, unknown>>;
    readonly intelRdt?: unknown;
  };
}

/** Applies what devices change, in order; a later change of the same thing wins. */
export function applyEdits<S extends EditableSpec>(spec: S, all: readonly ContainerEdits[]): S {
  return all.reduce<S>((before, edits) => {
    const { linux } = before;
    const nodes = (edits.deviceNodes ?? []).map((node) => specDevice(node, before.process.user));
    return {
      ...before,
      process: editedProcess(before.process, edits),
      mounts: mergeMounts(before.mounts, edits.mounts ?? []),
      ...((edits.hooks ?? []).length > 0 ? { hooks: mergeHooks(before.hooks ?? {}, edits.hooks ?? []) } : {}),
      linux: {
        ...linux,
        ...(nodes.length > 0 ? { devices: mergeDevices(linux.devices ?? [], nodes) } : {}),
        resources: {
          ...linux.resources,
          devices: [...linux.resources.devices, ...nodes.flatMap(({ rule }) => rule ?? [])],
        },
        ...netDevices(linux.netDevices, edits),
        ...(edits.intelRdt ? { intelRdt: edits.intelRdt } : {}),
      },
    };
  }, spec);
}

function editedProcess<P extends EditableSpec['process']>(before: P, edits: ContainerEdits): P {
  const gids = (edits.additionalGids ?? []).filter((gid) => gid !== 0);
  const additionalGids = [...new Set([...before.user.additionalGids, ...gids])];
  return { ...before, env: mergeEnv(before.env, edits.env ?? []), user: { ...before.user, additionalGids } };
}

function mergeEnv(before: readonly string[], added: readonly string[]): string[] {
  const nameOf = (entry: string): string => entry.split('=', 1)[0] ?? '';
  const env = [...before];
  for (const entry of added) {
    const at = env.findIndex((other) => nameOf(other) === nameOf(entry));
    if (at < 0) env.push(entry);
    else env[at] = entry;
  }
  return env;
}

/** Outer places before those in them. */
function mergeMounts(
  before: readonly SpecMount[],
  added: NonNullable<ContainerEdits['mounts']>,
): SpecMount[] {
  if (added.length === 0) return [...before];
  const mounts = [...before];
  for (const { hostPath = '', containerPath = '', type, options } of added) {
    const at = mounts.findIndex(({ destination }) => destination === containerPath);
    if (at >= 0) mounts.splice(at, 1);
    mounts.push({
      destination: containerPath,
      ...(type ? { type } : {}),
      source: hostPath,
      ...(options ? { options } : {}),
    });
  }
  const depth = ({ destination }: SpecMount): number => destination.split('/').filter(Boolean).length;
  return mounts.sort((a, b) => depth(a) - depth(b));
}

function mergeHooks(
  before: Readonly<Record<string, readonly unknown[]>>,
  added: readonly CdiHook[],
): Record<string, readonly unknown[]> {
  const hooks = { ...before };
  for (const { hookName = '', path, args, env, timeout } of added) {
    const one = {
      path,
      ...(args ? { args } : {}),
      ...(env ? { env } : {}),
      ...(timeout === undefined ? {} : { timeout }),
    };
    hooks[hookName] = [...(hooks[hookName] ?? []), one];
  }
  return hooks;
}

function netDevices(
  before: Readonly<Record<string, unknown>> | undefined,
  { netDevices: added = [] }: ContainerEdits,
): { netDevices?: Record<string, unknown> } {
  if (added.length === 0) return {};
  const own = added.map(({ hostInterfaceName = '', name }) => [hostInterfaceName, { name }] as const);
  return { netDevices: { ...before, ...Object.fromEntries(own) } };
}

interface EditedDevice {
  readonly device: { readonly path: string; readonly [field: string]: unknown };
  /** For the device cgroup. */
  readonly rule: Readonly<Record<string, unknown>> | undefined;
}

function mergeDevices(
  before: readonly { readonly path: string }[],
  added: readonly EditedDevice[],
): readonly { readonly path: string }[] {
  return added.reduce<readonly { readonly path: string }[]>(
    (devices, { device }) => [...devices.filter(({ path }) => path !== device.path), device],
    before,
  );
}

function specDevice(node: DeviceNode, user: { readonly uid: number; readonly gid: number }): EditedDevice {
  const { path = '', permissions = '' } = node;
  const { type, major, minor, fileMode } = completed(node);
  const uid = node.uid ?? (user.uid > 0 ? user.uid : undefined);
  const gid = node.gid ?? (user.gid > 0 ? user.gid : undefined);
  const device = {
    path,
    type,
    major,
    minor,
    ...(fileMode === undefined ? {} : { fileMode }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  };
  const ruled = type === 'b' || type === 'c';
  return {
    device,
    rule: ruled ? { allow: true, type, major, minor, access: permissions || 'rwm' } : undefined,
  };
}

interface NodeFacts {
  readonly type: string;
  readonly major: number;
  readonly minor: number;
  readonly fileMode?: number;
}

const TYPES = new Map([
  [S_IFBLK, 'b'],
  [S_IFCHR, 'c'],
  [S_IFIFO, 'p'],
]);

/** What the specification leaves open is taken from the machine's own node. */
function completed(node: DeviceNode): NodeFacts {
  const { path = '', type = '', major = 0, minor = 0, fileMode } = node;
  const hostPath = node.hostPath || path;
  const isComplete = type !== '' && (major !== 0 || type === 'p');
  let host: FileStat;
  let hostType: string;
  try {
    host = lstat(hostPath);
    const known = TYPES.get(host.mode & S_IFMT);
    if (!known) throw new BuildError('not a device node');
    hostType = known;
  } catch (error) {
    // A specification may describe a node that the machine lacks.
    if (isComplete) return { type, major, minor, ...(fileMode === undefined ? {} : { fileMode }) };
    const code = errno(error);
    const reason = code === undefined ? BuildError.from(error) : new BuildError(errnoText(code));
    throw BuildError.wrap(reason, `failed to stat CDI host device ${JSON.stringify(hostPath)}`);
  }
  const mode = fileMode ?? host.mode & 0o7777;
  if (isComplete) return { type, major, minor, fileMode: mode };
  if (type !== '' && type !== hostType)
    throw new BuildError(
      `CDI device (${JSON.stringify(path)}, ${JSON.stringify(hostPath)}), host type mismatch (${type}, ${hostType})`,
    );
  const numbers =
    hostType !== 'p' && major === 0 ? { major: host.rdevMajor, minor: host.rdevMinor } : { major, minor };
  return { type: hostType, ...numbers, fileMode: mode };
}
