import { BuildError } from '../base/errors.ts';
import { digestOf } from '../base/digest.ts';
import { parseBool } from '../base/flags.ts';
import { goJson, goMap } from '../base/gojson.ts';
import type * as pb from '../pb/control.ts';
import type { ExportMode } from '../remotecache/trace.ts';

/** One cache to import or export (FEATURES B7). */
export interface CacheEntry {
  readonly type: string;
  readonly attrs: Readonly<Record<string, string>>;
}

export interface CacheExportEntry extends CacheEntry {
  readonly mode: ExportMode;
  readonly ignoreError: boolean;
}

/** The entries of a request, its old form included. */
export function cacheImports(cache: pb.CacheOptions | undefined): CacheEntry[] {
  const old = (cache?.ImportRefsDeprecated ?? []).map((ref) => ({ type: 'registry', attrs: { ref } }));
  return [...(cache?.Imports ?? []).map(entryOf), ...old];
}

/** Same for exports; a second `inline` says nothing new. @throws for exports that are there twice */
export function cacheExports(cache: pb.CacheOptions | undefined): CacheExportEntry[] {
  const ref = cache?.ExportRefDeprecated ?? '';
  const attrs = { ...cache?.ExportAttrsDeprecated, ref };
  const old = ref === '' ? [] : [{ type: 'registry', attrs }];
  const entries: CacheEntry[] = [...(cache?.Exports ?? []).map(entryOf), ...old];
  const firstInline = entries.findIndex(({ type }) => type === 'inline');
  const kept = entries.filter(({ type }, i) => type !== 'inline' || i === firstInline);
  const seen = new Set<string>();
  const duplicates = new Map<string, string>();
  for (const entry of kept) {
    const id = cacheId(entry);
    if (seen.has(id)) duplicates.set(id, entry.type);
    seen.add(id);
  }
  if (duplicates.size > 0)
    throw new BuildError(`duplicate cache exports [${[...duplicates.values()].join(' ')}]`);
  return kept.map((entry) => ({
    ...entry,
    // Values that make no sense are the default, as upstream has it.
    mode: entry.attrs.mode === 'max' ? 'max' : 'min',
    ignoreError: parseBool(entry.attrs['ignore-error'] ?? '') ?? false,
  }));
}

/** What progress calls an entry, and what tells it from others. */
export function cacheId({ type, attrs }: CacheEntry): string {
  if (type === 'registry' && attrs.ref) return attrs.ref;
  const digest = digestOf(goJson([type, goMap(attrs)]));
  return `${type}:${BigInt(`0x${digest.slice('sha256:'.length, 'sha256:'.length + 16)}`)}`;
}

function entryOf({ Type, Attrs }: pb.CacheOptionsEntry): CacheEntry {
  return { type: Type, attrs: Attrs };
}

/** A boolean attribute; `absent` when it is not there. @throws `failed to parse KEY: …` */
export function cacheFlag({ attrs }: CacheEntry, key: string, absent: boolean): boolean {
  const text = attrs[key];
  if (text === undefined) return absent;
  const value = parseBool(text);
  if (value === undefined)
    throw new BuildError(
      `failed to parse ${key}: strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  return value;
}
