import { together } from '../../cache/together.ts';
import type { CallContext, Requests } from './requests.ts';

const PER_PAGE = 100;
/** Of one scope: 20,000 keys. What is not listed is sent again, and found to be there. */
const MAX_PAGES = 200;
/** A page: 100 entries of less than 1 KiB, bytes. */
const MAX_PAGE_BYTES = 1 << 20;

/** A repository in GitHub's REST API. */
export interface Repository {
  /** `https://api.github.com` */
  readonly api: string;
  /** `owner/name` */
  readonly name: string;
  /** For the API; a secret. */
  readonly token: string;
}

/** All keys that start with `prefix`, of several scopes (GitHub REST API 2022-11-28, `actions/caches`). */
export async function listKeys(
  requests: Requests,
  repository: Repository,
  prefix: string,
  scopes: readonly string[],
  context: CallContext,
): Promise<Set<string>> {
  const lists = await together(
    scopes.map(
      (scope) => (signal: AbortSignal) => keysOf(requests, repository, prefix, scope, { ...context, signal }),
    ),
    context.signal,
  );
  return new Set(lists.flat());
}

async function keysOf(
  requests: Requests,
  { api, name, token }: Repository,
  prefix: string,
  scope: string,
  context: CallContext,
): Promise<string[]> {
  const keys: string[] = [];
  for (let page = 1; page <= MAX_PAGES; page++) {
    const url = new URL(api);
    url.pathname = `${url.pathname.replace(/\/+$/, '')}/repos/${name}/actions/caches`;
    url.search = new URLSearchParams({
      per_page: `${PER_PAGE}`,
      page: `${page}`,
      key: prefix,
      ref: scope,
    }).toString();
    const headers = { accept: 'application/vnd.github+json', 'x-github-api-version': '2022-11-28' };
    const answer = await requests.json({ method: 'GET', url, token, headers }, context, MAX_PAGE_BYTES);
    const caches = Array.isArray(answer?.actions_caches) ? answer.actions_caches : [];
    for (const entry of caches as readonly ({ readonly key?: unknown } | null)[])
      if (typeof entry?.key === 'string') keys.push(entry.key);
    if (Number(answer?.total_count ?? 0) <= page * PER_PAGE || caches.length === 0) break;
  }
  return keys;
}
