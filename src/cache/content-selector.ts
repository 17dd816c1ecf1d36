/** What of a tree counts (FEATURES F17). */
export interface ContentSelector {
  readonly path: string;
  /** `path` may hold wildcards. */
  readonly wildcard: boolean;
  /** Follow a symlink that is the path itself. */
  readonly followLinks: boolean;
  /** Relative to `path`. */
  readonly includePatterns: readonly string[];
  readonly excludePatterns: readonly string[];
  /** Paths that must be among those selected. */
  readonly requiredPaths: readonly string[];
}

/** What is looked up by the calling thread: each selector goes through the tree, each pattern through its names. */
const FEW_SELECTORS = 8;
const FEW_PATTERNS = 32;

/** One path, with all that is below it. */
export function selectPath(path: string, followLinks: boolean): ContentSelector {
  return {
    path,
    followLinks,
    wildcard: false,
    includePatterns: [],
    excludePatterns: [],
    requiredPaths: [],
  };
}

/** Whether selectors ask for little, in a small tree. */
export function areFew(selectors: readonly ContentSelector[]): boolean {
  const patterns = selectors.reduce((n, s) => n + s.includePatterns.length + s.excludePatterns.length, 0);
  return selectors.length <= FEW_SELECTORS && patterns <= FEW_PATTERNS;
}
