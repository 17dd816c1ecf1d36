import { posix } from 'node:path';
import { BuildError } from '../base/errors.ts';
import { formatGoUrl, type GoUrl, parseGoQuery, parseGoUrl } from './go-url.ts';

export type GitScheme = 'http' | 'https' | 'ssh' | 'git';

/** An address that git understands, with what a fragment and a query add to it (FEATURES H20). */
export interface GitUrl {
  readonly scheme: GitScheme;
  /** With the port. */
  readonly host: string;
  readonly path: string;
  readonly query: ReadonlyMap<string, readonly string[]>;
  /** Of the fragment `#ref:subdir`; '' = not given. */
  readonly ref: string;
  readonly subdir: string;
  /** What git is given: the address without fragment and query. */
  readonly remote: string;
}

const SCHEMES: ReadonlySet<string> = new Set<GitScheme>(['http', 'https', 'ssh', 'git']);
const PROTOCOL = /^([a-zA-Z0-9]+):\/\//;
/** scp's way to write an address of ssh, up to the path. */
const SCP = /^([a-zA-Z0-9\-_]+)@([a-zA-Z0-9\-.]+):/;
const COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

/** The whole name of a commit (or another object), SHA-1 or SHA-256. */
export function isCommitSha(text: string): boolean {
  return COMMIT.test(text);
}

/** Whether text says by itself how to reach a repository. */
export function isGitTransport(text: string): boolean {
  const protocol = PROTOCOL.exec(text)?.[1];
  if (protocol !== undefined) return SCHEMES.has(protocol.toLowerCase());
  return SCP.test(text) && !text.includes('\n');
}

/** @throws BuildError `unknown protocol`, `X: invalid protocol`, or what is wrong with the address */
export function parseGitUrl(text: string): GitUrl {
  const protocol = PROTOCOL.exec(text)?.[1]?.toLowerCase();
  if (protocol === undefined) {
    const parsed = parseScp(text);
    if (!parsed) throw new BuildError('unknown protocol');
    return parsed;
  }
  if (!SCHEMES.has(protocol)) throw new BuildError(`${protocol}: invalid protocol`);
  return gitUrlOf(parseGoUrl(text), protocol as GitScheme);
}

export function gitUrlOf(url: GoUrl, scheme: GitScheme): GitUrl {
  // A bare question mark stays with the address.
  const rawQuery = url.rawQuery === '' ? '' : undefined;
  return {
    scheme,
    host: url.host,
    path: url.path,
    query: parseGoQuery(url.rawQuery ?? ''),
    ...splitFragment(url.fragment),
    remote: formatGoUrl(url, { scheme, fragment: '', rawFragment: '', rawQuery }),
  };
}

function parseScp(text: string): GitUrl | undefined {
  const match = SCP.exec(text);
  if (!match || text.includes('\n')) return undefined;
  const [start, user, host = ''] = match;
  const [, path = '', query = '', fragment = ''] =
    /^([^?#]*)(?:\?([^#]*))?(?:#([\s\S]*))?$/.exec(text.slice(start.length)) ?? [];
  try {
    return {
      scheme: 'ssh',
      host,
      path,
      query: parseGoQuery(query, { strict: true }),
      ...splitFragment(fragment),
      remote: `${user}@${host}:${path}`,
    };
  } catch {
    return undefined; // a query that is none: the text is something else
  }
}

/** `ref:subdir`; the subdirectory without leading slash and `..`. */
function splitFragment(fragment: string): { ref: string; subdir: string } {
  const colon = fragment.indexOf(':');
  if (colon < 0) return { ref: fragment, subdir: '' };
  return { ref: fragment.slice(0, colon), subdir: relativePath(fragment.slice(colon + 1)) };
}

/** Shortest form of a path that starts at the root of a repository; '' is the root. */
export function relativePath(path: string): string {
  return posix.resolve('/', `./${path}`).slice(1);
}
