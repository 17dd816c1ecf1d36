import { posix } from 'node:path';
import { BuildError } from '../base/errors.ts';
import { processCapabilities } from '../sys/caps.ts';
import { compileSeccomp } from '../sys/seccomp.ts';
import { DEFAULT_HOSTNAME } from './resolvconf.ts';
import { defaultSeccomp, type Seccomp } from './seccomp.ts';
import { insecureDevices, type SpecDevice } from './devices.ts';
import { applyEdits, type EditableSpec } from './cdi/edits.ts';
import type { ContainerEdits } from './cdi/spec.ts';
import type { LinuxResources, ProcessMeta } from './types.ts';
import type { ProcessUser } from './user.ts';

/** `mounts[]` of the runtime spec. */
export interface SpecMount {
  readonly destination: string;
  readonly type?: string;
  readonly source: string;
  readonly options?: readonly string[];
}

/** Where a container's network comes from: the host's own, a fresh one, or a namespace that is set up. */
export type NetworkSource = 'host' | 'new' | { readonly path: string };

export interface SpecInput {
  readonly id: string;
  readonly rootfs: string;
  readonly readonlyRootfs: boolean;
  readonly meta: ProcessMeta;
  readonly user: ProcessUser;
  readonly mounts: readonly SpecMount[];
  readonly resolvConf: string;
  readonly hosts: string;
  readonly network: NetworkSource;
  /** Default of `meta.cgroupParent`. */
  readonly cgroupParent: string;
  readonly cgroupV2: boolean;
  readonly seccomp: boolean;
  readonly apparmorProfile: string;
  readonly oomScoreAdj: number | undefined;
  /** What CDI devices change. */
  readonly deviceEdits?: readonly ContainerEdits[];
}

const SPEC_VERSION = '1.0.2';
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** FEATURES G3. */
const CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];

const MASKED_PATHS = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
  '/proc/scsi',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

const mount = (destination: string, type: string, source: string, ...options: string[]): SpecMount => ({
  destination,
  type,
  source,
  options,
});

function baseMounts(input: SpecInput, insecure: boolean): SpecMount[] {
  const access = insecure ? 'rw' : 'ro';
  const hidden = ['nosuid', 'noexec', 'nodev'];
  return [
    mount('/proc', 'proc', 'proc', ...hidden),
    mount('/dev', 'tmpfs', 'tmpfs', 'nosuid', 'strictatime', 'mode=755', 'size=65536k'),
    mount(
      '/dev/pts',
      'devpts',
      'devpts',
      'nosuid',
      'noexec',
      'newinstance',
      'ptmxmode=0666',
      'mode=0620',
      'gid=5',
    ),
    mount('/dev/shm', 'tmpfs', 'shm', ...hidden, 'mode=1777', 'size=65536k'),
    mount('/dev/mqueue', 'mqueue', 'mqueue', ...hidden),
    mount('/sys', 'sysfs', 'sysfs', ...hidden, access),
    mount('/etc/resolv.conf', 'bind', input.resolvConf, ...hidden, 'rbind', 'ro'),
    mount('/etc/hosts', 'bind', input.hosts, ...hidden, 'rbind', 'ro'),
    mount('/sys/fs/cgroup', 'cgroup', 'cgroup', access, ...hidden),
  ];
}

/** config.json of one container (FEATURES G2-G6, G11-G13). */
export function makeSpec(input: SpecInput): Record<string, unknown> {
  const insecure = input.meta.security === 'insecure';
  const { meta, user } = input;
  const capabilities = insecure ? processCapabilities('bounding') : CAPABILITIES;
  const sets = insecure
    ? ['bounding', 'effective', 'permitted', 'inheritable', 'ambient']
    : ['bounding', 'effective', 'permitted'];
  const seccomp = input.seccomp && !insecure ? sandboxSeccomp() : undefined;
  const devices: readonly SpecDevice[] = insecure ? insecureDevices() : [];
  const spec = {
    ociVersion: SPEC_VERSION,
    process: {
      terminal: meta.tty === true,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
      args: meta.args,
      env: withPath(meta.env),
      cwd: meta.cwd || '/',
      capabilities: Object.fromEntries(sets.map((set) => [set, capabilities])),
      noNewPrivileges: false,
      ...(meta.ulimits && meta.ulimits.length > 0 ? { rlimits: rlimits(meta) } : {}),
      ...(input.apparmorProfile && !insecure ? { apparmorProfile: input.apparmorProfile } : {}),
      ...(input.oomScoreAdj === undefined ? {} : { oomScoreAdj: input.oomScoreAdj }),
    },
    root: { path: input.rootfs, readonly: input.readonlyRootfs || meta.readonlyRootfs === true },
    hostname: meta.hostname || DEFAULT_HOSTNAME,
    mounts: baseMounts(input, insecure),
    linux: {
      cgroupsPath: cgroupsPath(input.id, meta.cgroupParent || input.cgroupParent),
      namespaces: namespaces(input),
      resources: { devices: deviceRules(insecure), ...resources(meta.resources) },
      ...(insecure ? {} : { maskedPaths: MASKED_PATHS, readonlyPaths: READONLY_PATHS }),
      ...(devices.length > 0 ? { devices } : {}),
      ...(seccomp ? { seccomp: seccomp.profile } : {}),
    },
    // crun takes the finished program and spends no time on building it; others read the profile.
    ...(seccomp?.program ? { annotations: { 'run.oci.seccomp_bpf_data': seccomp.program } } : {}),
  };
  const edited = withDevices(spec, input.deviceEdits ?? []);
  return { ...edited, mounts: replaceEarlier([...edited.mounts, ...input.mounts]) };
}

function withDevices<S extends EditableSpec>(spec: S, edits: readonly ContainerEdits[]): S {
  try {
    return applyEdits(spec, edits);
  } catch (error) {
    throw BuildError.wrap(error, 'CDI device injection failed: failed to inject devices');
  }
}

let sandbox: { readonly profile: Seccomp; readonly program: string | undefined } | undefined;

/** The profile of every step that is not insecure, and its program in base64. */
function sandboxSeccomp(): NonNullable<typeof sandbox> {
  if (!sandbox) {
    const profile = defaultSeccomp(CAPABILITIES);
    sandbox = { profile, program: compileSeccomp(profile)?.toString('base64') };
  }
  return sandbox;
}

/** A missing PATH gets the default one. */
export function withPath(env: readonly string[]): readonly string[] {
  return env.some((entry) => entry.startsWith('PATH=')) ? env : [...env, `PATH=${DEFAULT_PATH}`];
}

/** FEATURES G11: below `buildkit` in the parent; a systemd slice ending in `:` gets the id appended. */
export function cgroupsPath(id: string, parent: string): string {
  if (parent.includes('.slice') && parent.endsWith(':')) return parent + id;
  return posix.join('/', parent, 'buildkit', id);
}

function namespaces(input: SpecInput): unknown[] {
  const list: { type: string; path?: string }[] = [
    { type: 'pid' },
    { type: 'ipc' },
    { type: 'uts' },
    { type: 'mount' },
  ];
  if (input.network === 'new') list.push({ type: 'network' });
  else if (input.network !== 'host') list.push({ type: 'network', path: input.network.path });
  if (input.cgroupV2) list.push({ type: 'cgroup' });
  return list;
}

function rlimits(meta: ProcessMeta): unknown[] {
  return (meta.ulimits ?? []).map((limit) => ({
    type: `RLIMIT_${limit.name.toUpperCase()}`,
    hard: jsonNumber(BigInt.asUintN(64, limit.hard)),
    soft: jsonNumber(BigInt.asUintN(64, limit.soft)),
  }));
}

function deviceRules(insecure: boolean): unknown[] {
  if (!insecure) return [{ allow: false, access: 'rwm' }];
  return [
    { allow: true, type: 'c', access: 'rwm' },
    { allow: true, type: 'b', access: 'rwm' },
  ];
}

function resources(limits: LinuxResources | undefined): Record<string, unknown> {
  if (!limits) return {};
  const memory: Record<string, unknown> = {};
  if (limits.memory !== 0n) memory.limit = jsonNumber(limits.memory);
  if (limits.memorySwap !== 0n) memory.swap = jsonNumber(limits.memorySwap);
  const cpu: Record<string, unknown> = {};
  if (limits.cpuShares !== 0n) cpu.shares = jsonNumber(limits.cpuShares);
  if (limits.cpuQuota !== 0n || limits.cpuPeriod !== 0n) {
    cpu.quota = jsonNumber(limits.cpuQuota);
    cpu.period = jsonNumber(limits.cpuPeriod);
  }
  if (limits.cpusetCpus !== '') cpu.cpus = limits.cpusetCpus;
  if (limits.cpusetMems !== '') cpu.mems = limits.cpusetMems;
  return {
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
  };
}

/** Numbers beyond 2^53 keep all their digits in the JSON text. */
function jsonNumber(value: bigint): unknown {
  const number = Number(value);
  return Number.isSafeInteger(number)
    ? number
    : (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(String(value));
}

/** A later mount on the same destination takes the place of the earlier one, where that one was. */
function replaceEarlier(mounts: readonly SpecMount[]): SpecMount[] {
  const byDestination = new Map<string, SpecMount>();
  for (const one of mounts) byDestination.set(one.destination, one);
  return [...byDestination.values()];
}

/** `dest` of a mount as the spec has it: absolute and without `..`. */
export function mountDestination(dest: string): string {
  return posix.resolve('/', dest);
}
