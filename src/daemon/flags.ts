import type { CommandSpec, FlagSpec } from '../base/flags.ts';
import { VERSION } from '../base/version.ts';

/** Defaults that depend on who runs the daemon; see `defaultPaths`. */
export interface FlagDefaults {
  readonly config: string;
  readonly root: string;
  readonly address: string;
  readonly cniConfig: string;
  readonly cniBinaries: string;
  readonly rootless: boolean;
}

const flag = (
  kind: FlagSpec['kind'],
  name: string,
  usage: string,
  more: Partial<FlagSpec> = {},
): FlagSpec => ({
  name,
  kind,
  usage,
  ...more,
});

/** The command line of buildkitd (FEATURES A11, A30, A31). */
export function daemonCommand(defaults: FlagDefaults): CommandSpec {
  return {
    name: 'buildkitd',
    usage: 'build daemon',
    version: VERSION,
    flags: [...generalFlags(defaults), ...containerdFlags(defaults), ...ociFlags(defaults)],
  };
}

function generalFlags(defaults: FlagDefaults): FlagSpec[] {
  return [
    flag('bool', 'rootless', 'set all the default options to be compatible with rootless containers', {
      ...(defaults.rootless ? { value: 'true' } : {}),
    }),
    flag('string', 'config', 'path to config file', { value: defaults.config }),
    flag('bool', 'debug', 'enable debug output in logs'),
    flag('bool', 'trace', 'enable trace output in logs (very verbose)', { hidden: true }),
    flag('string', 'root', 'path to state directory', { value: defaults.root }),
    flag('strings', 'addr', 'listening address (socket or tcp)', { value: defaults.address }),
    flag('string', 'log-format', 'log formatter: json or text', { value: 'text' }),
    flag('string', 'log-level', 'set the log level', { value: 'info', env: ['BUILDKITD_LOG_LEVEL'] }),
    flag('string', 'group', 'group (name or gid) which will own all Unix socket listening addresses'),
    flag('string', 'debugaddr', 'debugging address (eg. 0.0.0.0:6060)', { env: ['BUILDKITD_DEBUGADDR'] }),
    flag('duration', 'stall-warning', 'warn of builds that make no progress for this long (0 = never)', {
      value: '10m',
    }),
    flag('string', 'tlscert', 'certificate file to use'),
    flag('string', 'tlskey', 'key file to use'),
    flag('string', 'tlscacert', 'ca certificate to verify clients'),
    flag(
      'strings',
      'allow-insecure-entitlement',
      'allows insecure entitlements: network.host, security.insecure, device',
    ),
    flag('bool', 'proxy-network', 'enable proxy network enforcement for all builds'),
    flag('string', 'otel-socket-path', 'OTEL collector trace socket path'),
    flag('bool', 'cdi-disabled', 'disables support of the Container Device Interface (CDI)'),
    flag('strings', 'cdi-spec-dir', 'list of directories to scan for CDI spec files'),
    flag('bool', 'save-cache-debug', 'enable saving cache debug info'),
    flag('bool', 'exit-with-stdin', 'stop gracefully at the end of the standard input', { hidden: true }),
  ];
}

function containerdFlags(defaults: FlagDefaults): FlagSpec[] {
  return [
    flag('string', 'containerd-worker', 'enable containerd workers (true/false/auto)', { value: 'auto' }),
    flag('string', 'containerd-worker-addr', 'containerd socket', {
      value: '/run/containerd/containerd.sock',
    }),
    flag('strings', 'containerd-worker-labels', 'user-specific annotation labels (com.example.foo=bar)'),
    flag('strings', 'containerd-worker-platform', 'override supported platforms for worker', {
      hidden: true,
    }),
    flag('string', 'containerd-worker-namespace', 'override containerd namespace', {
      value: 'buildkit',
      hidden: true,
    }),
    flag('string', 'containerd-worker-runtime', 'override containerd runtime', {
      value: 'io.containerd.runc.v2',
      hidden: true,
    }),
    flag('string', 'containerd-worker-net', 'worker network type (auto, bridge, cni or host)', {
      value: 'auto',
    }),
    flag('string', 'containerd-cni-config-path', 'path of cni config file', { value: defaults.cniConfig }),
    flag('string', 'containerd-cni-binary-dir', 'path of cni binary files', { value: defaults.cniBinaries }),
    flag('int', 'containerd-cni-pool-size', 'size of cni network namespace pool', { value: '0' }),
    flag('string', 'containerd-worker-snapshotter', 'snapshotter name to use', { value: 'overlayfs' }),
    flag(
      'string',
      'containerd-worker-apparmor-profile',
      'name of the apparmor profile applied to containers',
    ),
    flag('bool', 'containerd-worker-selinux', 'apply SELinux labels'),
    flag('int', 'containerd-max-parallelism', 'limit the number of parallel build steps', { value: '0' }),
    flag('bool', 'containerd-worker-rootless', 'enable rootless mode'),
    flag('bool', 'containerd-worker-gc', 'enable automatic garbage collection on worker', { value: 'true' }),
    flag('string', 'containerd-worker-gc-keepstorage', GC_KEEP_USAGE),
  ];
}

const GC_KEEP_USAGE = 'amount of storage GC keeps locally, format "Reserved[,Free[,Maximum]]" (MB)';

function ociFlags(defaults: FlagDefaults): FlagSpec[] {
  return [
    flag('string', 'oci-worker', 'enable oci workers (true/false/auto)', { value: 'auto' }),
    flag('strings', 'oci-worker-labels', 'user-specific annotation labels (com.example.foo=bar)'),
    flag('string', 'oci-worker-snapshotter', 'name of snapshotter (overlayfs, native, etc.)', {
      value: 'auto',
    }),
    flag(
      'string',
      'oci-worker-proxy-snapshotter-path',
      "address of proxy snapshotter socket (without 'unix://')",
    ),
    flag('strings', 'oci-worker-platform', 'override supported platforms for worker'),
    flag('string', 'oci-worker-net', 'worker network type (auto, bridge, cni or host)', { value: 'auto' }),
    flag('string', 'oci-cni-config-path', 'path of cni config file', { value: defaults.cniConfig }),
    flag('string', 'oci-cni-binary-dir', 'path of cni binary files', { value: defaults.cniBinaries }),
    flag('int', 'oci-cni-pool-size', 'size of cni network namespace pool', { value: '0' }),
    flag('string', 'oci-worker-binary', 'name of specified oci worker binary'),
    flag('string', 'oci-worker-apparmor-profile', 'name of the apparmor profile applied to containers'),
    flag('bool', 'oci-worker-selinux', 'apply SELinux labels'),
    flag('int', 'oci-max-parallelism', 'limit the number of parallel build steps', { value: '0' }),
    flag('bool', 'oci-worker-rootless', 'enable rootless mode', {
      ...(defaults.rootless ? { value: 'true' } : {}),
    }),
    flag(
      'bool',
      'oci-worker-no-process-sandbox',
      'use the host PID namespace and procfs (lets build steps signal other processes there)',
    ),
    flag('bool', 'oci-worker-gc', 'enable automatic garbage collection on worker', { value: 'true' }),
    flag('string', 'oci-worker-gc-keepstorage', GC_KEEP_USAGE),
  ];
}

/** Flags that are understood but whose feature does not exist yet. */
export const LATER_FLAGS: Readonly<Record<string, string>> = {
  'proxy-network': 'the proxy network is',
  'otel-socket-path': 'tracing is',
  'save-cache-debug': 'cache debug information is',
  'oci-worker-proxy-snapshotter-path': 'proxy snapshotters are',
  'oci-cni-pool-size': 'a pool of network namespaces is',
  'oci-worker-apparmor-profile': 'AppArmor is',
  'oci-worker-selinux': 'SELinux is',
  'oci-worker-rootless': 'rootless mode is',
  rootless: 'rootless mode is',
  'oci-worker-no-process-sandbox': 'running without process sandbox is',
  'containerd-worker': 'the containerd worker is',
};
