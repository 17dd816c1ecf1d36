import { BuildError } from '../base/errors.ts';
import { parseBool } from '../base/flags.ts';
import type { CacheEntry } from './solve-types.ts';

/**
 * A cache of type `gha` with what a job of GitHub Actions finds in its environment, where its attributes do not say
 * otherwise; other caches as they are (FEATURES K12). @throws BuildError where neither says it
 */
export function withActionsEnv(
  entry: CacheEntry,
  env: Readonly<Record<string, string | undefined>>,
): CacheEntry {
  if (entry.type !== 'gha') return entry;
  const { url_v2: second, url, token, version } = entry.attrs;
  const isSecond = version === undefined ? parseBool(env.ACTIONS_CACHE_SERVICE_V2 ?? '') : version === '2';
  const found = {
    url_v2: second ?? (isSecond ? env.ACTIONS_RESULTS_URL : undefined),
    url: url ?? env.ACTIONS_CACHE_URL ?? env.ACTIONS_RESULTS_URL,
    token: token ?? env.ACTIONS_RUNTIME_TOKEN,
  };
  if (found.url === undefined && found.url_v2 === undefined)
    throw new BuildError('cache with type gha requires url parameter to be set');
  if (found.token === undefined)
    throw new BuildError('cache with type gha requires token parameter or $ACTIONS_RUNTIME_TOKEN');
  const known = Object.entries(found).filter((pair): pair is [string, string] => pair[1] !== undefined);
  return { ...entry, attrs: { ...entry.attrs, ...Object.fromEntries(known) } };
}
