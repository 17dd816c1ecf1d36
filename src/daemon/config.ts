import { isAbsolute, resolve } from 'node:path';
import { BuildError, invalidArgument } from '../base/errors.ts';
import { type FlagValues, parseArgs, parseBool } from '../base/flags.ts';
import { helpText } from '../base/flags-help.ts';
import type { LogLevel } from '../base/log.ts';
import { versionLine } from '../base/version.ts';
import type { DnsConfig } from '../executor/resolvconf.ts';
import { parseReference } from '../oci/reference.ts';
import { type DaemonEnv, daemonEnv, defaultPaths, type Env, gidOf, inUserNamespace } from './config-env.ts';
import { type FileConfig, type FileRegistry, LOG_LEVELS, loadConfigFile } from './config-file.ts';
import { ociWorker, type OciWorkerConfig } from './config-worker.ts';
import { type Entitlement, parseEntitlement } from './entitlements.ts';
import { daemonCommand, LATER_FLAGS } from './flags.ts';
import { type ListenAddress, parseDebugAddress, parseListenAddress } from './listen-address.ts';

/** Everything the daemon was told, parsed once. Frozen. */
export interface DaemonConfig {
  /** Absolute path of the state directory. */
  readonly root: string;
  /** At least one. */
  readonly addresses: readonly ListenAddress[];
  /** Owner of unix sockets. */
  readonly socketOwner: { readonly uid: number; readonly gid: number };
  /** Files of the server's identity; a `ca` makes clients present certificates. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca?: string } | undefined;
  readonly log: { readonly level: LogLevel; readonly format: 'text' | 'json' };
  /** What builds may be granted (FEATURES A13). */
  readonly entitlements: ReadonlySet<Entitlement>;
  /** CDI devices (FEATURES A20); no directories when they are switched off. */
  readonly cdi: {
    readonly specDirs: readonly string[];
    /** Devices or kinds that builds may use without being granted them. */
    readonly autoAllowed: readonly string[];
    /** Kinds that are set up when a step asks for them. */
    readonly onDemand: readonly string[];
  };
  readonly oci: OciWorkerConfig;
  /** True when the containerd worker is asked for by name. */
  readonly containerdEnabled: boolean;
  /** By host (FEATURES A26). */
  readonly registries: ReadonlyMap<string, RegistryConfig>;
  readonly dns: DnsConfig | undefined;
  readonly frontends: {
    readonly dockerfile: boolean;
    /** Repositories of frontend images that are not run: dockerfile.v0 builds their files. */
    readonly standsInFor: readonly string[];
    readonly gateway: boolean;
    /** Repositories that gateway.v0 may run; empty = all. */
    readonly gatewayRepositories: readonly string[];
  };
  /** How long the list of emulated platforms is believed, ms; negative = for ever. Default 20 s. */
  readonly platformsCacheMaxAgeMs: number;
  /** Connections per registry. Default 4. */
  readonly maxRegistryConcurrency: number;
  /** Folder of JSON files that are added to provenance. */
  readonly provenanceEnvDir: string;
  readonly history: { readonly maxAgeMs: number; readonly maxEntries: number };
  /** Whether what steps are made of is remembered, to say why they ran. Default true. */
  readonly explain: boolean;
  /** Caches in GitHub's cache service are to be signed, or their signatures checked. */
  readonly signedGha: boolean;
  /** Stop gracefully when the standard input ends (the private daemon of `buildctl build`). */
  readonly exitWithStdin: boolean;
  /** Where the state of builds is served over http. */
  readonly debugAddress: ListenAddress | undefined;
  /** Builds that make no progress for this long are warned of; 0 = never. */
  readonly stallWarningMs: number;
  readonly env: DaemonEnv;
}

export interface RegistryConfig {
  /** Hosts asked first, each with an optional path prefix. */
  readonly mirrors: readonly string[];
  readonly plainHttp: boolean | undefined;
  /** Certificates are not verified. */
  readonly insecure: boolean | undefined;
  /** PEM files. */
  readonly rootCas: readonly string[];
  readonly keyPairs: readonly { readonly key: string; readonly cert: string }[];
  /** Folders of `*.crt`, `*.cert` and `*.key`. */
  readonly tlsConfigDirs: readonly string[];
}

export type DaemonArgs =
  | { readonly kind: 'run'; readonly config: DaemonConfig; readonly warnings: readonly string[] }
  /** Print on stdout and exit with 0. */
  | { readonly kind: 'text'; readonly text: string }
  /** Print `errorText` on stderr, `text` on stdout, and exit with `exitCode`. */
  | {
      readonly kind: 'usage';
      readonly errorText: string;
      readonly text: string;
      readonly exitCode: number;
    };

const NANOS_PER_MS = 1_000_000n;
const PLATFORMS_CACHE_MS = 20_000;
const REGISTRY_CONCURRENCY = 4;
const HISTORY_AGE_MS = 48 * 3_600_000;
const HISTORY_ENTRIES = 50;
const CDI_SPEC_DIRS = ['/etc/cdi', '/var/run/cdi', '/etc/buildkit/cdi'];

/**
 * Command line, environment and configuration file to one configuration: a flag beats the file,
 * the file beats the default (FEATURES A12). @throws BuildError for a value that makes no sense.
 */
export async function parseDaemonArgs(argv: readonly string[], env: Env): Promise<DaemonArgs> {
  const userNamespace = inUserNamespace();
  const paths = defaultPaths(env, userNamespace);
  const command = daemonCommand({ ...paths, rootless: userNamespace });
  const parsed = parseArgs(command, argv, env);
  if (parsed.kind === 'version') return { kind: 'text', text: `${versionLine('buildkitd')}\n` };
  if (parsed.kind === 'help') return { kind: 'text', text: helpText(parsed.path) };
  if (parsed.kind === 'no-topic')
    return { kind: 'usage', errorText: `No help topic for '${parsed.topic}'\n`, text: '', exitCode: 3 };
  if (parsed.kind === 'usage') {
    const errorText = `Incorrect Usage: ${parsed.message}\n\nbuildkitd: ${parsed.message}\n`;
    return { kind: 'usage', errorText, text: helpText([command]), exitCode: 1 };
  }
  const { flags } = parsed;
  const warnings: string[] = [];
  const warn = (text: string): void => void (warnings.includes(text) || warnings.push(text));
  const file = await loadConfigFile(flags.string('config'), flags.isSet('config'), warn);
  warnLater(flags, warn);
  const config: DaemonConfig = {
    root: absolute(flags.isSet('root') ? flags.string('root') : file.root || paths.root),
    addresses: addressesOf(flags, file, paths.address),
    socketOwner: ownerOf(flags, file),
    tls: tlsOf(flags, file),
    log: logOf(flags, file, warn),
    entitlements: entitlementsOf(flags, file),
    cdi: cdiOf(flags, file),
    oci: ociWorker(flags, file.worker?.oci ?? {}, paths, env),
    containerdEnabled: enabledContainerd(flags, file),
    provenanceEnvDir: absolute(file.provenanceEnvDir || paths.provenanceEnv),
    ...restOf(file),
    signedGha: isGhaSigned(file, warn),
    exitWithStdin: flags.bool('exit-with-stdin'),
    debugAddress: debugAddressOf(flags, file),
    stallWarningMs: stallWarningOf(flags, file),
    env: daemonEnv(env),
  };
  return { kind: 'run', config: deepFreeze(config), warnings };
}

/** Full name of a repository, without tag. @throws BuildError with the key of the configuration */
function repository(name: string, key: string): string {
  try {
    return parseReference(name).name;
  } catch (error) {
    throw BuildError.wrap(error, key);
  }
}

function restOf(file: FileConfig) {
  const { dns, frontend, system, history, explain } = file;
  return {
    registries: new Map(Object.entries(file.registry ?? {}).map(([host, r]) => [host, registryOf(host, r)])),
    dns: dns && {
      nameservers: dns.nameservers ?? [],
      options: dns.options ?? [],
      searchDomains: dns.searchDomains ?? [],
    },
    frontends: {
      dockerfile: frontend?.['dockerfile.v0']?.enabled ?? true,
      standsInFor: (frontend?.['dockerfile.v0']?.standsInFor ?? []).map((name) =>
        repository(name, 'frontend."dockerfile.v0".standsInFor'),
      ),
      gateway: frontend?.['gateway.v0']?.enabled ?? true,
      gatewayRepositories: (frontend?.['gateway.v0']?.allowedRepositories ?? []).map((name) =>
        repository(name, 'frontend."gateway.v0".allowedRepositories'),
      ),
    },
    platformsCacheMaxAgeMs: system?.platformsCacheMaxAge ?? PLATFORMS_CACHE_MS,
    maxRegistryConcurrency: system?.maxRegistryConcurrency ?? REGISTRY_CONCURRENCY,
    explain: explain?.enabled ?? true,
    history: {
      maxAgeMs: history?.maxAge ?? HISTORY_AGE_MS,
      maxEntries: history?.maxEntries ?? HISTORY_ENTRIES,
    },
  };
}

/** FEATURES A29, K16. */
function isGhaSigned({ ghacache, cache }: FileConfig, warn: (text: string) => void): boolean {
  const isSigned = [ghacache, cache?.gha].some(
    (gha) => (gha?.sign?.command?.length ?? 0) > 0 || gha?.verify?.required === true,
  );
  if (isSigned) warn('caches of type gha cannot be used: the configuration wants them signed (ghacache)');
  return isSigned;
}

function warnLater(flags: FlagValues, warn: (text: string) => void): void {
  for (const [name, feature] of Object.entries(LATER_FLAGS)) {
    if (!flags.isSet(name)) continue;
    const off = name === 'containerd-worker' ? parseBool(flags.string(name)) !== true : false;
    const value = flags.string(name);
    if (!off && value !== '' && value !== 'false' && value !== '0')
      warn(`flag --${name} has no effect: ${feature} not built yet`);
  }
}

function absolute(path: string): string {
  return isAbsolute(path) ? resolve(path) : resolve(process.cwd(), path);
}

function addressesOf(flags: FlagValues, file: FileConfig, fallback: string): ListenAddress[] {
  const given = flags.isSet('addr') ? flags.strings('addr') : (file.grpc?.address ?? []);
  const addresses = given.length > 0 ? given : [fallback];
  if (addresses.every((a) => a === '')) throw invalidArgument('--addr cannot be empty');
  return addresses.map(parseListenAddress);
}

function debugAddressOf(flags: FlagValues, file: FileConfig): ListenAddress | undefined {
  const text = flags.string('debugaddr') || file.grpc?.debugAddress || '';
  return text === '' ? undefined : parseDebugAddress(text);
}

function stallWarningOf(flags: FlagValues, file: FileConfig): number {
  const given = flags.isSet('stall-warning') ? undefined : file.system?.stallWarning;
  return given ?? Number(flags.duration('stall-warning') / NANOS_PER_MS);
}

function ownerOf(flags: FlagValues, file: FileConfig): { uid: number; gid: number } {
  const group = flags.string('group');
  return {
    uid: file.grpc?.uid ?? process.getuid?.() ?? 0,
    gid: group === '' ? (file.grpc?.gid ?? process.getgid?.() ?? 0) : gidOf(group),
  };
}

function tlsOf(flags: FlagValues, file: FileConfig): DaemonConfig['tls'] {
  const tls = file.grpc?.tls;
  const cert = flags.string('tlscert') || tls?.cert || '';
  const key = flags.string('tlskey') || tls?.key || '';
  const ca = flags.string('tlscacert') || tls?.ca || '';
  if (cert === '' && key === '') return undefined;
  if (cert === '' || key === '')
    throw invalidArgument('you must specify key and cert file if one is specified');
  return { cert, key, ...(ca === '' ? {} : { ca }) };
}

function logOf(flags: FlagValues, file: FileConfig, warn: (text: string) => void): DaemonConfig['log'] {
  let level: string = file.log?.level ?? '';
  for (const old of ['debug', 'trace'] as const) {
    if (!file[old]) continue;
    warn(`'${old}' configuration option is deprecated, use 'log.level = "${old}"' instead`);
    level ||= old;
  }
  if (flags.bool('debug')) level = 'debug';
  if (flags.isSet('trace')) {
    warn('--trace option is deprecated; use --log-level=trace instead');
    if (flags.bool('trace')) level = 'trace';
  }
  if (flags.isSet('log-level')) level = flags.string('log-level');
  const format = flags.isSet('log-format') ? flags.string('log-format') : (file.log?.format ?? 'text');
  if (format !== 'text' && format !== 'json' && format !== '')
    throw invalidArgument(`unsupported log type ${JSON.stringify(format)}`);
  return { level: logLevel(level || 'info'), format: format || 'text' };
}

function logLevel(name: string): LogLevel {
  const level = name.toLowerCase();
  if (!(LOG_LEVELS as readonly string[]).includes(level))
    throw invalidArgument(`unsupported log level: not a valid logrus Level: ${JSON.stringify(name)}`);
  if (level === 'warning') return 'warn';
  return level === 'fatal' || level === 'panic' ? 'error' : (level as LogLevel);
}

function entitlementsOf(flags: FlagValues, file: FileConfig): ReadonlySet<Entitlement> {
  const asked = flags.isSet('allow-insecure-entitlement')
    ? flags.strings('allow-insecure-entitlement')
    : (file['insecure-entitlements'] ?? []);
  const allowed = new Set<Entitlement>();
  for (const name of asked) {
    if (name.includes('=')) throw invalidArgument(`invalid entitlement : ${name}`);
    try {
      allowed.add(parseEntitlement(name).name);
    } catch (error) {
      throw new BuildError(`invalid entitlement : ${name}`, { cause: error });
    }
  }
  if (!isCdiDisabled(flags, file)) allowed.add('device');
  return allowed;
}

function isCdiDisabled(flags: FlagValues, file: FileConfig): boolean {
  return flags.isSet('cdi-disabled') ? flags.bool('cdi-disabled') : file.cdi?.disabled === true;
}

function cdiOf(flags: FlagValues, file: FileConfig): DaemonConfig['cdi'] {
  if (isCdiDisabled(flags, file)) return { specDirs: [], autoAllowed: [], onDemand: [] };
  const dirs = flags.isSet('cdi-spec-dir') ? flags.strings('cdi-spec-dir') : (file.cdi?.specDirs ?? []);
  return {
    specDirs: dirs.length > 0 ? dirs : CDI_SPEC_DIRS,
    autoAllowed: file.cdi?.autoAllowed ?? [],
    onDemand: file.cdi?.onDemand ?? [],
  };
}

function enabledContainerd(flags: FlagValues, file: FileConfig): boolean {
  if (flags.isSet('containerd-worker')) return parseBool(flags.string('containerd-worker')) === true;
  return file.worker?.containerd?.enabled === true;
}

function registryOf(host: string, registry: FileRegistry): RegistryConfig {
  return {
    mirrors: registry.mirrors ?? [],
    plainHttp: registry.http,
    insecure: registry.insecure,
    rootCas: registry.ca ?? [],
    keyPairs: (registry.keypair ?? []).map(({ key, cert }) => {
      if (!key || !cert)
        throw invalidArgument(
          `invalid configuration: registry.${JSON.stringify(host)}.keypair: key and cert are required`,
        );
      return { key, cert };
    }),
    tlsConfigDirs: registry.tlsconfigdir ?? [],
  };
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
