import { type Digest, digestOf, isDigest } from '../base/digest.ts';
import { invalidArgument } from '../base/errors.ts';
import { basePath } from '../match/paths.ts';

export interface HttpHeader {
  readonly name: string;
  readonly value: string;
}

/** What `http://…` or `https://…` and its attributes ask for (FEATURES D33). */
export interface HttpSourceSpec {
  readonly url: string;
  readonly checksum: Digest | undefined;
  /** '' = from the answer or the URL. */
  readonly filename: string;
  /** 0 = 0600. */
  readonly perm: number;
  readonly uid: number;
  readonly gid: number;
  /** Name of the secret whose value is the Authorization header; '' = none is asked for by name. */
  readonly authHeaderSecret: string;
  /** Sorted by name. */
  readonly headers: readonly HttpHeader[];
  readonly signature: HttpSignature | undefined;
}

/** A detached signature of OpenPGP that the file must have, by one of some keys; both armored. */
export interface HttpSignature {
  readonly publicKeys: string;
  readonly armored: string;
}

/** Attribute suffix to header name: the ones that users may set. */
const HEADERS: Readonly<Record<string, string>> = { accept: 'Accept', 'user-agent': 'User-Agent' };
const HEADER_PREFIX = 'http.header.';
const DEFAULT_NAME = 'download';

/** @throws invalidArgument */
export function httpSourceSpec(url: string, attrs: Readonly<Record<string, string>>): HttpSourceSpec {
  if (!URL.canParse(url)) throw invalidArgument(`invalid URL ${JSON.stringify(url)}`);
  const checksum = attrs['http.checksum'];
  if (checksum !== undefined && !isDigest(checksum)) throw invalidArgument('invalid checksum digest format');
  const headers = Object.entries(attrs)
    .filter(([key]) => key.startsWith(HEADER_PREFIX))
    .map(([key, value]) => ({ name: HEADERS[key.slice(HEADER_PREFIX.length).toLowerCase()] ?? '', value }))
    .filter(({ name }) => name !== '')
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    url,
    checksum,
    filename: attrs['http.filename'] ?? '',
    perm: goInteger(attrs, 'http.perm'),
    uid: goInteger(attrs, 'http.uid'),
    gid: goInteger(attrs, 'http.gid'),
    authHeaderSecret: attrs['http.authheadersecret'] ?? '',
    headers,
    signature: httpSignature(attrs),
  };
}

/** @throws invalidArgument for half of it */
function httpSignature(attrs: Readonly<Record<string, string>>): HttpSignature | undefined {
  const { 'http.sig.pubkey': publicKeys, 'http.sig.signature': armored } = attrs;
  if (publicKeys === undefined && armored === undefined) return undefined;
  if (!publicKeys !== !armored)
    throw invalidArgument('http signature verification requires both pubkey and signature');
  return { publicKeys: publicKeys ?? '', armored: armored ?? '' };
}

/** A number in Go's notation: a leading 0 or 0o is octal, 0x hexadecimal, 0b binary. 0 when absent. */
export function goInteger(attrs: Readonly<Record<string, string>>, key: string): number {
  const text = attrs[key];
  if (text === undefined) return 0;
  const octal = /^0([0-7]+)$/.exec(text)?.[1];
  const known = /^(?:\d+|0[oO][0-7]+|0[xX][0-9a-fA-F]+|0[bB][01]+)$/.test(text);
  const value = octal !== undefined ? Number.parseInt(octal, 8) : known ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value) || /^0\d*[89]/.test(text))
    throw invalidArgument(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  return value;
}

/** Names all downloads that could stand for one another. */
export function downloadKey(spec: HttpSourceSpec): Digest {
  const { url, filename, perm, uid, gid, authHeaderSecret, headers } = spec;
  return digestOf(JSON.stringify([url, filename, perm, uid, gid, authHeaderSecret, headers]));
}

/** The URL for texts that others read: without user and password. */
export function shownUrl(spec: HttpSourceSpec): string {
  const url = new URL(spec.url);
  if (url.username === '' && url.password === '') return spec.url;
  if (url.username !== '') url.username = 'xxxxx';
  if (url.password !== '') url.password = 'xxxxx';
  return url.href;
}

/** Name of the file: the user's, the server's, the URL's, else one that is safe (FEATURES D39). */
export function httpFileName(spec: HttpSourceSpec, contentDisposition: string | undefined): string {
  if (spec.filename !== '') return safeFileName(spec.filename);
  const given = dispositionName(contentDisposition ?? '');
  if (given !== '' && !given.endsWith('/')) return safeFileName(given);
  return safeFileName(decodedPath(new URL(spec.url).pathname));
}

function decodedPath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path; // a lone percent sign: the path stands as it is
  }
}

/** The filename parameter of a Content-Disposition header (RFC 6266), or ''. */
function dispositionName(header: string): string {
  const extended = /;\s*filename\*\s*=\s*(?:utf-8|us-ascii)'[^']*'([^;\s]+)/i.exec(header)?.[1];
  if (extended !== undefined) return decodedPath(extended);
  const match = /;\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))/i.exec(header);
  return match?.[1]?.replace(/\\(.)/g, '$1') ?? match?.[2] ?? '';
}

/** The last part of a path, or a default for what is no name of a file. */
export function safeFileName(path: string): string {
  const base = basePath(path.trim());
  const name = base === '/' ? '' : base;
  return name === '' || name === '.' || name === '..' || /\p{Cc}/u.test(name) ? DEFAULT_NAME : name;
}
