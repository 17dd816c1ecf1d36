import { mkdirSync } from 'node:fs';
import { BuildError, invalidArgument } from '../base/errors.ts';
import { isDigest } from '../base/digest.ts';
import { parseBool } from '../base/flags.ts';
import { contentDirectory } from '../session/host/content-directory.ts';
import type { RemoteContent } from '../session/content.ts';
import type { CacheEntry, SolveRequest } from './solve-types.ts';

const DEFAULT_TAG = 'latest';
/** Key of the response that names the manifest of an exported cache. */
const RESPONSE_KEY = 'cache.manifest';

/** The caches of a request as the daemon is told of them, and the folders they are in. */
export interface PreparedCaches {
  readonly exports: readonly CacheEntry[];
  readonly imports: readonly CacheEntry[];
  /** By the names that the daemon asks for. */
  readonly stores: ReadonlyMap<string, RemoteContent>;
  readonly written: readonly WrittenCache[];
}

interface WrittenCache {
  readonly dir: string;
  readonly tag: string;
  readonly reset: boolean;
}

/** Looks the folders up. An import whose cache is not there is left out with a warning. @throws BuildError */
export async function prepareCaches(request: SolveRequest): Promise<PreparedCaches> {
  const stores = new Map<string, RemoteContent>();
  const written: WrittenCache[] = [];
  const exports = request.cacheExports ?? [];
  for (const { type, attrs } of exports) {
    if (type === 'registry' && !attrs.ref) throw invalidArgument('registry cache exporter requires ref');
    if (type !== 'local') continue;
    const { dest: dir } = attrs;
    if (!dir) throw invalidArgument('local cache exporter requires dest');
    mkdirSync(dir, { recursive: true, mode: 0o755 });
    stores.set(`local:${dir}`, contentDirectory(dir));
    written.push({ dir, tag: attrs.tag ?? DEFAULT_TAG, reset: resetOf(attrs.reset) });
  }
  const imports: CacheEntry[] = [];
  for (const entry of request.cacheImports ?? []) {
    if (entry.type === 'registry' && !entry.attrs.ref)
      throw invalidArgument('registry cache importer requires ref');
    const found = entry.type === 'local' ? await localImport(entry, request, stores) : entry;
    if (found) imports.push(found);
  }
  return { exports, imports, stores, written };
}

function resetOf(text: string | undefined): boolean {
  if (text === undefined) return false;
  const reset = parseBool(text);
  if (reset === undefined)
    throw invalidArgument(
      `failed to parse reset attribute: strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  return reset;
}

async function localImport(
  entry: CacheEntry,
  { onWarning = () => {} }: SolveRequest,
  stores: Map<string, RemoteContent>,
): Promise<CacheEntry | undefined> {
  const { src: dir, tag = DEFAULT_TAG } = entry.attrs;
  if (!dir) throw invalidArgument('local cache importer requires src');
  let { digest = '' } = entry.attrs;
  if (digest === '') {
    if (tag === '')
      throw invalidArgument(
        'local cache importer requires either explicit digest, "latest" tag or custom tag on index.json',
      );
    try {
      const { findInIndex } = await import('../ocilayout/index-file.ts');
      digest = findInIndex(dir, tag)?.digest ?? '';
    } catch (error) {
      onWarning(`local cache import at ${dir} skipped due to err: ${BuildError.from(error).message}`);
      return undefined;
    }
    if (digest === '') {
      onWarning(`local cache import at ${dir} skipped: no digest found for tag ${tag}`);
      return undefined;
    }
  }
  const store = contentDirectory(dir);
  try {
    if (!isDigest(digest)) throw invalidArgument(`invalid digest ${JSON.stringify(digest)}`);
    await store.info(digest);
  } catch (error) {
    const reason = BuildError.from(error).message;
    onWarning(`local cache import at ${dir} skipped: digest ${digest} unavailable: ${reason}`);
    return undefined;
  }
  stores.set(`local:${dir}`, store);
  return { type: entry.type, attrs: { ...entry.attrs, digest } };
}

/** Names what was put into cache folders, and clears away what nothing names any more where that is wanted. */
export async function finishCaches(
  { written }: PreparedCaches,
  response: Readonly<Record<string, string>>,
  onWarning: (text: string) => void = () => {},
): Promise<void> {
  if (written.length === 0) return;
  const { putIntoIndex } = await import('../ocilayout/index-file.ts');
  const text = response[RESPONSE_KEY];
  if (text) for (const { dir, tag } of written) putIntoIndex(dir, JSON.parse(text), [{ tag }]);
  for (const { dir, reset } of written) {
    if (!reset) continue;
    try {
      const { removeUnreferenced } = await import('../ocilayout/reset.ts');
      await removeUnreferenced(dir);
    } catch (error) {
      onWarning(`failed to reset cache store: ${BuildError.from(error).message}`);
    }
  }
}
