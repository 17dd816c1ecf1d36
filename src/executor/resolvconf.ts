import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { join } from 'node:path';
import { invalidArgument } from '../base/errors.ts';

/** `[dns]` of the configuration; an empty list leaves that part as the host has it. */
export interface DnsConfig {
  readonly nameservers: readonly string[];
  readonly options: readonly string[];
  readonly searchDomains: readonly string[];
}

interface ResolvConf {
  nameservers: readonly string[];
  search: readonly string[];
  options: readonly string[];
  readonly other: readonly string[];
}

const HOST_FILE = '/etc/resolv.conf';
/** What systemd-resolved knows behind its stub at 127.0.0.53. */
const SYSTEMD_FILE = '/run/systemd/resolve/resolv.conf';
const SYSTEMD_STUB = '127.0.0.53';
const FALLBACK = ['8.8.8.8', '8.8.4.4', '2001:4860:4860::8888', '2001:4860:4860::8844'];
const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** The text of a container's resolv.conf (FEATURES G9). */
export function makeResolvConf(text: string, dns: DnsConfig | undefined, hostNetwork: boolean): string {
  const conf = parse(text);
  const overridden = dns !== undefined && dns.nameservers.length > 0;
  if (overridden) conf.nameservers = dns.nameservers.map(checkedAddress);
  if (dns && dns.searchDomains.length > 0) conf.search = dns.searchDomains.filter((name) => name !== '.');
  if (dns && dns.options.length > 0) conf.options = dns.options;
  if (!overridden && (!hostNetwork || conf.nameservers.length === 0)) {
    const reachable = conf.nameservers.filter((address) => !isLoopback(address));
    conf.nameservers = reachable.length > 0 ? reachable : FALLBACK;
  }
  return print(conf);
}

function checkedAddress(address: string): string {
  if (isIP(address.split('%')[0]!)) return address;
  throw invalidArgument(`bad nameserver address: ParseAddr(${JSON.stringify(address)}): unable to parse IP`);
}

function isLoopback(address: string): boolean {
  const plain = address.split('%')[0]!;
  return LOOPBACK.check(plain, isIP(plain) === 6 ? 'ipv6' : 'ipv4');
}

function parse(text: string): ResolvConf {
  const nameservers: string[] = [];
  const options: string[] = [];
  const other: string[] = [];
  let search: string[] = [];
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    const [directive, ...values] = line.split(/\s+/).filter(Boolean);
    if (directive === undefined) continue;
    if (directive === 'nameserver') {
      if (values[0] !== undefined && isIP(values[0].split('%')[0]!)) nameservers.push(values[0]);
    } else if (directive === 'search' || directive === 'domain') {
      if (values.length > 0) search = values;
    } else if (directive === 'options') options.push(...values);
    else other.push(line);
  }
  return { nameservers, search, options, other };
}

function print(conf: ResolvConf): string {
  const lines = conf.nameservers.map((address) => `nameserver ${address}`);
  if (conf.search.length > 0) lines.push(`search ${conf.search.join(' ')}`);
  if (conf.options.length > 0) lines.push(`options ${conf.options.join(' ')}`);
  return [...lines, ...conf.other].map((line) => `${line}\n`).join('');
}

/** Keeps one file per kind of network in `dir`, made anew at start and when the host's file changes. */
export class ResolvConfFiles {
  readonly #dir: string;
  readonly #dns: DnsConfig | undefined;
  readonly #made = new Map<string, number>();

  constructor(dir: string, dns?: DnsConfig) {
    this.#dir = dir;
    this.#dns = dns;
  }

  /** Path of the file to bind into the container. */
  path(hostNetwork: boolean): string {
    const name = hostNetwork ? 'resolv-host.conf' : 'resolv.conf';
    const path = join(this.#dir, name);
    const source = hostNetwork ? HOST_FILE : sourceFile();
    const changed = modified(source);
    if (this.#made.get(name) === changed) return path;
    writeAtomically(
      path,
      makeResolvConf(changed === 0 ? '' : readFileSync(source, 'utf8'), this.#dns, hostNetwork),
    );
    this.#made.set(name, changed);
    return path;
  }
}

function sourceFile(): string {
  if (modified(HOST_FILE) === 0) return HOST_FILE;
  const { nameservers } = parse(readFileSync(HOST_FILE, 'utf8'));
  return nameservers.length === 1 && nameservers[0] === SYSTEMD_STUB ? SYSTEMD_FILE : HOST_FILE;
}

/** Time of change in ms; 0 when there is no such file. */
function modified(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

export const DEFAULT_HOSTNAME = 'buildkitsandbox';

/** Text of a container's hosts file. */
export function makeHosts(
  hostname: string,
  extraHosts: readonly { readonly host: string; readonly ip: string }[] = [],
): string {
  const lines = [
    `127.0.0.1\tlocalhost ${hostname || DEFAULT_HOSTNAME}`,
    '::1\tlocalhost ip6-localhost ip6-loopback',
    ...extraHosts.map(({ host, ip }) => `${ip}\t${host}`),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** Writes a file so that readers see the old or the new text, mode 0644. */
export function writeAtomically(path: string, text: string): void {
  const temporary = `${path}.tmp`;
  rmSync(temporary, { force: true });
  mkdirSync(join(path, '..'), { recursive: true, mode: 0o711 });
  writeFileSync(temporary, text, { mode: 0o644 });
  renameSync(temporary, path);
}
