import { isIPv4, isIPv6 } from 'node:net';
import { BuildError } from '../base/errors.ts';

/**
 * An address with an authority, read and written the way clients and daemons of this protocol do it: not
 * WHATWG's way, which would turn `http://h/a b` or `ssh://h:22` into other texts, and texts are cache keys.
 */
export interface GoUrl {
  /** Lower case. */
  readonly scheme: string;
  readonly user: { readonly name: string; readonly password: string | undefined } | undefined;
  /** With the port. */
  readonly host: string;
  /** Decoded. */
  readonly path: string;
  readonly rawPath: string;
  /** Without `?`; undefined when there is none at all. */
  readonly rawQuery: string | undefined;
  /** Decoded. */
  readonly fragment: string;
  readonly rawFragment: string;
}

type Part = 'path' | 'host' | 'zone' | 'user' | 'fragment';

/** Punctuation that stands unescaped in a part, besides letters, digits and `-_.~`. */
const PLAIN: Readonly<Record<Part, string>> = {
  path: '$&+,/:;=@',
  host: '!$&\'()*+,;=:[]<>"',
  zone: '!$&\'()*+,;=:[]<>"',
  user: '$&+,;=',
  fragment: '$&+,/:;=?@!()*',
};
const UNRESERVED = /[A-Za-z0-9\-_.~]/;

/** Reads `scheme://…`, or a path when there is no scheme. @throws BuildError `parse "TEXT": …` */
export function parseGoUrl(text: string): GoUrl {
  const hash = text.indexOf('#');
  const main = hash < 0 ? text : text.slice(0, hash);
  const rawFragment = toBytes(hash < 0 ? '' : text.slice(hash + 1));
  const url = named(main, () => parse(toBytes(main)));
  const fragment = named(text, () => fromBytes(decode(rawFragment, 'fragment')));
  return { ...url, fragment, rawFragment };
}

function named<T>(text: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw BuildError.wrap(error, `parse ${JSON.stringify(text)}`);
  }
}

/** One character per byte, so that escapes of any bytes can be told from characters. */
function toBytes(text: string): string {
  return Buffer.from(text).toString('latin1');
}

function fromBytes(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString();
}

function parse(main: string): Omit<GoUrl, 'fragment' | 'rawFragment'> {
  if (/[\x00-\x1f\x7f]/.test(main)) throw new BuildError('net/url: invalid control character in URL');
  const scheme = /^([a-zA-Z][a-zA-Z0-9+\-.]*):/.exec(main)?.[1] ?? '';
  let rest = scheme === '' ? main : main.slice(scheme.length + 1);
  const question = rest.indexOf('?');
  const rawQuery = question < 0 ? undefined : fromBytes(rest.slice(question + 1));
  if (question >= 0) rest = rest.slice(0, question);
  let user: GoUrl['user'];
  let host = '';
  if (rest.startsWith('//')) {
    const slash = rest.indexOf('/', 2);
    const authority = slash < 0 ? rest.slice(2) : rest.slice(2, slash);
    rest = slash < 0 ? '' : rest.slice(slash);
    const at = authority.lastIndexOf('@');
    host = parseHost(scheme.toLowerCase(), authority.slice(at + 1));
    if (at >= 0) user = parseUser(authority.slice(0, at));
  }
  return {
    scheme: scheme.toLowerCase(),
    user,
    host: fromBytes(host),
    path: fromBytes(decode(rest, 'path')),
    rawPath: rest,
    rawQuery,
  };
}

function parseUser(info: string): NonNullable<GoUrl['user']> {
  if (!/^[A-Za-z0-9\-._:~!$&'()*+,;=%@]*$/.test(info)) throw new BuildError('net/url: invalid userinfo');
  const colon = info.indexOf(':');
  const plain = (part: string): string => fromBytes(decode(part, 'user'));
  if (colon < 0) return { name: plain(info), password: undefined };
  return { name: plain(info.slice(0, colon)), password: plain(info.slice(colon + 1)) };
}

function parseHost(scheme: string, host: string): string {
  const open = host.lastIndexOf('[');
  if (open > 0) throw new BuildError('invalid IP-literal');
  if (open === 0) return parseIpLiteral(host);
  // Lists of hosts are let through, but not where servers of the web are asked.
  const strict = scheme === 'http' || scheme === 'https';
  const colon = strict ? host.indexOf(':') : host.lastIndexOf(':');
  if (colon >= 0) checkPort(host.slice(colon));
  return decode(host, 'host');
}

function parseIpLiteral(host: string): string {
  const close = host.lastIndexOf(']');
  if (close < 0) throw new BuildError("missing ']' in host");
  const port = host.slice(close + 1);
  checkPort(port);
  const name = host.slice(1, close);
  const zone = name.indexOf('%25');
  const address =
    zone < 0 ? decode(name, 'host') : decode(name.slice(0, zone), 'host') + decode(name.slice(zone), 'zone');
  if (isIPv4(address)) throw new BuildError('invalid IP-literal');
  if (!isIPv6(address))
    throw new BuildError(
      `invalid host: ParseAddr(${JSON.stringify(fromBytes(address))}): unable to parse IP`,
    );
  return `[${address}]${port}`;
}

function checkPort(port: string): void {
  if (!/^(?::[0-9]*)?$/.test(port))
    throw new BuildError(`invalid port ${JSON.stringify(fromBytes(port))} after host`);
}

function isPlain(char: string, part: Part): boolean {
  return UNRESERVED.test(char) || PLAIN[part].includes(char);
}

/** Bytes behind `%XX`. @throws BuildError for half an escape, and for what a host must not hold */
function decode(text: string, part: Part): string {
  const host = part === 'host' || part === 'zone';
  return text.replace(/%[\s\S]{0,2}|[\x00-\x7f]/g, (found) => {
    if (!found.startsWith('%')) {
      if (host && !isPlain(found, part))
        throw new BuildError(`invalid character ${JSON.stringify(found)} in host name`);
      return found;
    }
    if (!/^%[0-9a-fA-F]{2}$/.test(found)) throw badEscape(found);
    const byte = String.fromCharCode(Number.parseInt(found.slice(1), 16));
    const allowed = !host || found === '%25' || byte >= '\x80';
    if (part === 'host' && !allowed) throw badEscape(found);
    if (part === 'zone' && !allowed && byte !== ' ' && !isPlain(byte, part)) throw badEscape(found);
    return byte;
  });
}

function badEscape(sequence: string): BuildError {
  return new BuildError(`invalid URL escape ${JSON.stringify(fromBytes(sequence))}`);
}

function encode(text: string, part: Part): string {
  return toBytes(text).replace(/[^A-Za-z0-9\-_.~]/g, (char) =>
    PLAIN[part].includes(char) ? char : `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
}

/** A part as it was written when that was correct, else escaped anew. */
function written(raw: string, part: 'path' | 'fragment', decoded: string): string {
  if (raw === '') return '';
  const plain = `${PLAIN[part]}!$&'()*+,;=:@[]%`;
  const correct = [...raw].every((char) => UNRESERVED.test(char) || plain.includes(char));
  return correct ? raw : encode(decoded, part);
}

/** The address as text, with what `change` replaces. */
export function formatGoUrl(url: GoUrl, change: Partial<GoUrl> = {}): string {
  const { scheme, user, host, path, rawPath, rawQuery, fragment, rawFragment } = { ...url, ...change };
  let text = scheme === '' ? '' : `${scheme}:`;
  if (scheme !== '' || host !== '' || user) {
    if (host !== '' || path !== '' || user) text += '//';
    if (user) text += `${formatUser(user)}@`;
    text += encode(host, 'host');
  }
  text += written(rawPath, 'path', path);
  if (rawQuery !== undefined) text += `?${rawQuery}`;
  if (fragment !== '') text += `#${written(rawFragment, 'fragment', fragment)}`;
  return text;
}

function formatUser({ name, password }: NonNullable<GoUrl['user']>): string {
  return encode(name, 'user') + (password === undefined ? '' : `:${encode(password, 'user')}`);
}

/** Keys and values of a query, in order of first appearance. Pairs that make no sense are left out. */
export function parseGoQuery(
  rawQuery: string,
  options: { readonly strict?: boolean } = {},
): Map<string, string[]> {
  const values = new Map<string, string[]>();
  for (const pair of toBytes(rawQuery).split('&')) {
    const equals = pair.indexOf('=');
    const [key, value] = [
      equals < 0 ? pair : pair.slice(0, equals),
      equals < 0 ? '' : pair.slice(equals + 1),
    ];
    try {
      if (pair.includes(';')) throw new BuildError('invalid semicolon separator in query');
      if (pair === '') continue;
      const name = decodeQuery(key);
      const text = decodeQuery(value);
      values.set(name, [...(values.get(name) ?? []), text]);
    } catch (error) {
      if (options.strict) throw error;
    }
  }
  return values;
}

function decodeQuery(text: string): string {
  return fromBytes(decode(text.replaceAll('+', ' '), 'fragment'));
}
