import type { ContentSelector } from '../cache/content-selector.ts';
import { compareText } from '../llb/gopath.ts';

/** How one input counts in a step's cache key (FEATURES E6, E7). */
export interface KeyDep {
  /** '' when the whole input matters. */
  readonly selector: string;
  /**
   * What to hash for a key made of content; no entry means the whole tree. Undefined: the step has no such key.
   * The content key is `digestOf` of the checksums of all entries joined by NUL, also of a single one (E14).
   */
  readonly content: readonly ContentSelector[] | undefined;
}

/** Each path once and without those below another one, sorted. A single one stays as it is. */
export function dedupePaths(paths: readonly string[]): string[] {
  if (paths.length <= 1) return [...paths];
  const kept: string[] = [];
  for (const path of [...new Set(paths)].sort(compareText)) {
    const inside = kept.some((other) => path.startsWith(other.endsWith('/') ? other : `${other}/`));
    if (!inside) kept.push(path);
  }
  return kept;
}
