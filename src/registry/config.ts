/** A registry's section of the daemon's configuration (FEATURES F22). */
export interface RegistryConfig {
  /** `[scheme://]host[/path]`, tried in order before the registry itself, for pulls only. */
  readonly mirrors?: readonly string[];
  /** Plain HTTP. Unset: only for hosts on this machine. */
  readonly http?: boolean;
  /** No certificate check; with `http` (also by default) plain HTTP where the server speaks no TLS. */
  readonly insecure?: boolean;
  /** PEM files that are trusted beside the system's. */
  readonly ca?: readonly string[];
  readonly keyPairs?: readonly KeyPairPaths[];
  /** Folders whose `*.crt` are trusted and whose `*.cert` with `*.key` are client certificates. */
  readonly tlsConfigDirs?: readonly string[];
}

/** PEM files of a client certificate. */
export interface KeyPairPaths {
  readonly key: string;
  readonly cert: string;
}

/** Proxy settings in the form of the usual environment variables. */
export interface ProxyConfig {
  readonly httpProxy?: string;
  readonly httpsProxy?: string;
  readonly noProxy?: string;
  /** Only for programs that know it, like git. */
  readonly allProxy?: string;
}

/** One server to ask for a registry's content. */
export interface RegistryHost {
  readonly scheme: 'http' | 'https';
  /** With port. */
  readonly host: string;
  /** `/v2` and what a mirror puts behind it. */
  readonly path: string;
  readonly canPush: boolean;
  /** Asked on behalf of another host, which it must be told. */
  readonly isMirror: boolean;
  readonly tls: HostTls;
}

/** How a host is talked to. */
export interface HostTls {
  readonly insecure: boolean;
  /** https may turn into http where the server speaks no TLS. */
  readonly plainFallback: boolean;
  readonly config: RegistryConfig | undefined;
}

const HUB = 'docker.io';
const HUB_SERVER = 'registry-1.docker.io';

/** The servers of registry `domain`, first choice first; the registry itself is the last. */
export function hostsOf(
  domain: string,
  registries: Readonly<Record<string, RegistryConfig>>,
): readonly RegistryHost[] {
  const own = Object.hasOwn(registries, domain) ? registries[domain] : undefined;
  const mirrors = (own?.mirrors ?? []).map((mirror) => {
    const { host, path } = splitMirror(mirror);
    const config = Object.hasOwn(registries, host) ? registries[host] : undefined;
    return { ...connection(host, config), host, path: `/v2${path}`, canPush: false, isMirror: true };
  });
  const host = domain === HUB ? HUB_SERVER : domain;
  return [...mirrors, { ...connection(host, own), host, path: '/v2', canPush: true, isMirror: false }];
}

function splitMirror(mirror: string): { host: string; path: string } {
  const rest = mirror.replace(/^[a-zA-Z][a-zA-Z0-9+.-]*:\/\//, '');
  const slash = rest.indexOf('/');
  if (slash < 0) return { host: rest, path: '' };
  const path = rest
    .slice(slash)
    .split('/')
    .filter((part) => part !== '')
    .join('/');
  return { host: rest.slice(0, slash), path: path === '' ? '' : `/${path}` };
}

function connection(host: string, config: RegistryConfig | undefined): Pick<RegistryHost, 'scheme' | 'tls'> {
  const plain = config?.http ?? isLocalHost(host);
  const insecure = config?.insecure ?? false;
  return {
    scheme: plain && !insecure ? 'http' : 'https',
    tls: { insecure, plainFallback: plain && insecure, config },
  };
}

/** `localhost` or a loopback address, with or without port. */
export function isLocalHost(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return name === 'localhost' || name === '::1' || /^127\.\d+\.\d+\.\d+$/.test(name);
}
