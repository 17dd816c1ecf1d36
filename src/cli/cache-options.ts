import { invalidArgument } from '../base/errors.ts';
import { csvPairs } from '../client/csv.ts';
import { withActionsEnv } from '../client/actions-env.ts';
import type { CacheEntry } from '../client/solve-types.ts';

type Env = Readonly<Record<string, string | undefined>>;
export type Warn = (text: string) => void;

/** `--export-cache` (FEATURES K2, K24). @throws BuildError */
export function parseExportCache(text: string, warn: Warn, env: Env = process.env): CacheEntry {
  const { type, attrs } = parseEntry('--export-cache', text, warn, env);
  return { type, attrs: { ...attrs, mode: attrs.mode ?? 'min' } };
}

/** `--import-cache`. @throws BuildError */
export function parseImportCache(text: string, warn: Warn, env: Env = process.env): CacheEntry {
  return parseEntry('--import-cache', text, warn, env);
}

function parseEntry(flag: string, text: string, warn: Warn, env: Env): CacheEntry {
  if (!text.includes('type=')) {
    warn(
      `${flag} <ref> is deprecated. Please use ${flag} type=registry,ref=<ref>,<opt>=<optval>[,<opt>=<optval>] instead`,
    );
    return { type: 'registry', attrs: { ref: text } };
  }
  let type = '';
  const attrs: Record<string, string> = {};
  for (const [key, value] of csvPairs(text, (field) => `invalid value ${field}`))
    if (key === 'type') type = value;
    else attrs[key] = value;
  if (type === '') throw invalidArgument(`${flag} requires type=<type>`);
  return withActionsEnv({ type, attrs }, env);
}
