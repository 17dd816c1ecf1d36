import { BuildError, Code, errno } from '../base/errors.ts';
import { SETUP_KINDS } from '../executor/cdi/setup.ts';
import {
  anyTable,
  boolean,
  count,
  type Decoded,
  later,
  listOf,
  mapOf,
  oneOf,
  positive,
  string,
  table,
} from './config-schema.ts';
import { diskSpace, durationMs } from './config-values.ts';

/** The keys of buildkitd.toml (FEATURES A15-A29). */
const strings = listOf(string);
export const NETWORK_MODES = ['auto', 'bridge', 'cni', 'host'] as const;
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'warning', 'error', 'fatal', 'panic'] as const;
export const LOG_FORMATS = ['text', 'json'] as const;

const gcPolicy = table({
  all: boolean,
  filters: strings,
  keepDuration: durationMs,
  keepBytes: diskSpace,
  reservedSpace: diskSpace,
  maxUsedSpace: diskSpace,
  minFreeSpace: diskSpace,
});

const gcKeys = {
  gc: boolean,
  gckeepstorage: diskSpace,
  reservedSpace: diskSpace,
  maxUsedSpace: diskSpace,
  minFreeSpace: diskSpace,
  gcpolicy: listOf(gcPolicy),
  hardLimit: diskSpace,
};

const networkKeys = {
  networkMode: oneOf(...NETWORK_MODES),
  cniConfigPath: string,
  cniBinaryPath: string,
  cniPoolSize: later(count, 'a pool of network namespaces is'),
  bridgeName: string,
  bridgeSubnet: string,
};

const ociWorker = table({
  enabled: boolean,
  labels: mapOf(string),
  platforms: strings,
  snapshotter: string,
  rootless: later(boolean, 'rootless mode is'),
  noProcessSandbox: later(boolean, 'running without process sandbox is'),
  ...gcKeys,
  ...networkKeys,
  userRemapUnsupported: later(string, 'user remapping is'),
  binary: string,
  proxySnapshotterPath: later(string, 'proxy snapshotters are'),
  defaultCgroupParent: string,
  stargzSnapshotter: later(anyTable, 'the stargz snapshotter is'),
  'apparmor-profile': later(string, 'AppArmor is'),
  selinux: later(boolean, 'SELinux is'),
  'max-parallelism': count,
});

const containerdWorker = table({
  address: string,
  enabled: boolean,
  labels: mapOf(string),
  platforms: strings,
  namespace: string,
  runtime: table({ name: string, path: string, options: anyTable }),
  ...gcKeys,
  ...networkKeys,
  snapshotter: string,
  'apparmor-profile': string,
  selinux: boolean,
  'max-parallelism': count,
  defaultCgroupParent: string,
  rootless: boolean,
});

const registry = table({
  mirrors: strings,
  http: boolean,
  insecure: boolean,
  ca: strings,
  keypair: listOf(table({ key: string, cert: string })),
  tlsconfigdir: strings,
});

const ghaSigning = table({
  sign: table({ command: strings }),
  verify: table({
    required: boolean,
    policy: table({
      timestampThreshold: count,
      tlogThreshold: count,
      certificateIssuer: string,
      subjectAlternativeName: string,
      buildSignerURI: string,
    }),
  }),
});

const file = table({
  debug: boolean,
  trace: boolean,
  root: string,
  'insecure-entitlements': strings,
  proxyNetwork: later(boolean, 'the proxy network is'),
  provenanceEnvDir: string,
  log: table({ format: oneOf(...LOG_FORMATS), level: oneOf(...LOG_LEVELS) }),
  grpc: table({
    address: strings,
    debugAddress: string,
    uid: count,
    gid: count,
    securityDescriptor: later(string, 'Windows is'),
    tls: table({ cert: string, key: string, ca: string }),
  }),
  otel: table({ socketPath: later(string, 'tracing is') }),
  cdi: table({
    disabled: boolean,
    specDirs: strings,
    autoAllowed: strings,
    onDemand: listOf(oneOf(...SETUP_KINDS)),
  }),
  worker: table({ oci: ociWorker, containerd: later(containerdWorker, 'the containerd worker is') }),
  registry: mapOf(registry),
  dns: table({ nameservers: strings, options: strings, searchDomains: strings }),
  explain: table({ enabled: boolean }),
  history: table({ maxAge: durationMs, maxEntries: count }),
  frontend: table({
    'dockerfile.v0': table({ enabled: boolean, standsInFor: strings }),
    'gateway.v0': table({ enabled: boolean, allowedRepositories: strings }),
  }),
  system: table({
    stallWarning: durationMs,
    platformsCacheMaxAge: durationMs,
    maxRegistryConcurrency: positive,
  }),
  cache: table({ gha: ghaSigning }),
  ghacache: ghaSigning,
});

export type FileConfig = Decoded<typeof file>;
export type FileGcPolicy = Decoded<typeof gcPolicy>;
export type FileRegistry = Decoded<typeof registry>;

/** Reads buildkitd.toml. A file that does not exist is an empty one, with a warning when it was asked for by name. */
export async function loadConfigFile(
  path: string,
  named: boolean,
  warn: (text: string) => void,
): Promise<FileConfig> {
  const { readFileSync } = await import('node:fs');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errno(error) !== 'ENOENT') throw BuildError.wrap(error, `failed to load config from ${path}`);
    if (named) warn(`configuration file ${path} does not exist`);
    return {};
  }
  return await parseConfigFile(text, path, warn);
}

export async function parseConfigFile(
  text: string,
  path: string,
  warn: (text: string) => void,
): Promise<FileConfig> {
  const toml = await import('smol-toml');
  let parsed: unknown;
  try {
    parsed = toml.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message.trim() : String(error);
    throw new BuildError(`failed to parse config ${path}: ${reason}`, {
      code: Code.invalidArgument,
      cause: error,
    });
  }
  try {
    return file(parsed, '', warn);
  } catch (error) {
    throw BuildError.wrap(error, path);
  }
}
