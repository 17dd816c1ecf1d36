import { BuildError } from '../../base/errors.ts';
import { parseDuration } from '../../base/duration.ts';
import { type CacheScope, tokenScopes } from './token.ts';

const DEFAULT_SCOPE = 'buildkit';
const DEFAULT_TIMEOUT_MS = 10 * 60_000;
/** What upstream makes of `timeout=0`. */
const ZERO_TIMEOUT_MS = 5 * 60_000;
const NEW_SERVICE_HOST = 'results-receiver.actions.githubusercontent.com';

/** A cache in GitHub's cache service (FEATURES K12). */
export interface GhaConfig {
  /** Name of the cache among those of the repository. */
  readonly scope: string;
  readonly url: URL;
  readonly version: 1 | 2;
  /** For the cache service; a secret. */
  readonly token: string;
  /** What the token opens, in its order. */
  readonly scopes: readonly CacheScope[];
  /** How long one request may be tried. */
  readonly timeoutMs: number;
  /** What is needed to list the keys of a repository: `owner/name`, and a token for GitHub's API (a secret). */
  readonly listing: { readonly repository: string; readonly token: string } | undefined;
}

/** The attributes of a `gha` cache. @throws BuildError, without secrets in it */
export function ghaConfig(attrs: Readonly<Record<string, string>>, now = Date.now()): GhaConfig {
  const { token, repository, ghtoken } = attrs;
  if (token === undefined) throw new BuildError('token not set for github actions cache');
  const asked = askedVersion(attrs.version);
  const second = asked === 1 ? undefined : attrs.url_v2;
  const url = second || attrs.url;
  if (!url) throw new BuildError('url not set for github actions cache');
  return {
    scope: attrs.scope ?? DEFAULT_SCOPE,
    url: serviceUrl(url),
    version: second !== undefined || asked > 1 || (asked === 0 && url.includes(NEW_SERVICE_HOST)) ? 2 : 1,
    token,
    scopes: tokenScopes(token, now),
    timeoutMs: timeout(attrs.timeout),
    listing: repository && ghtoken ? { repository, token: ghtoken } : undefined,
  };
}

/** The last scope that may be written; '' when there is none. */
export function writeScope({ scopes }: GhaConfig): string {
  return scopes.findLast(({ writable }) => writable)?.name ?? '';
}

/** 0: nothing is asked for. */
function askedVersion(text: string | undefined): number {
  if (text === undefined) return 0;
  if (!/^[+-]?\d+$/.test(text))
    throw new BuildError(
      `failed to parse api version ${JSON.stringify(text)}, expected positive integer: invalid syntax`,
    );
  return Number(text);
}

function serviceUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:')
    throw new BuildError('invalid url of github actions cache: it starts with neither http:// nor https://');
  return url;
}

function timeout(text: string | undefined): number {
  if (text === undefined) return DEFAULT_TIMEOUT_MS;
  const nanoseconds = parseDuration(text);
  if (nanoseconds === undefined)
    throw new BuildError(
      `failed to parse timeout for github actions cache: time: invalid duration ${JSON.stringify(text)}`,
    );
  return nanoseconds === 0n ? ZERO_TIMEOUT_MS : Number(nanoseconds / 1_000_000n);
}
