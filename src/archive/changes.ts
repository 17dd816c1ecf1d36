import { BuildError, Code } from '../base/errors.ts';
import { isDirMode } from '../sys/stat.ts';
import { lgetxattr } from '../sys/xattr.ts';
import {
  isOpaque,
  isWhiteout,
  listNames,
  lookUp,
  sameEntry,
  type ViewEntry,
  type ViewRules,
} from './view.ts';

/** One difference. `path` is relative; `entry` is the upper side. */
export type Change =
  | { readonly kind: 'delete'; readonly path: string }
  | {
      readonly kind: 'add' | 'modify' | 'unmodified';
      readonly path: string;
      readonly entry: ViewEntry;
    };

const PLAIN: ViewRules = { overlay: false };
const OVERLAY: ViewRules = { overlay: true };
const JOIN = (prefix: string, name: string): string => (prefix === '' ? name : `${prefix}/${name}`);

/** Differences of two plain trees, by walking both (FEATURES F5). Unmodified files only when they have links. */
export function treeChanges(
  lower: string | undefined,
  upper: string | undefined,
): Generator<Change, void, void> {
  const dirs = (root: string | undefined): string[] => (root === undefined ? [] : [root]);
  return compareDirs('', dirs(lower), dirs(upper), PLAIN, PLAIN);
}

/** Differences of two trees made of directories, each top first, by walking both. */
export function viewChanges(
  lower: readonly string[],
  upper: readonly string[],
  rules: ViewRules,
): Generator<Change, void, void> {
  return compareDirs('', lower, upper, rules, rules);
}

/**
 * What the upper directory of an overlay changes on `lowers`, top first: only the upper one is walked. A directory
 * that is there because something in it changed is left out itself. An opaque one is compared with what it hides.
 */
export function* overlayChanges(lowers: readonly string[], upper: string): Generator<Change, void, void> {
  yield* overlayDir('', lowers, upper);
}

function* overlayDir(
  prefix: string,
  lowers: readonly string[],
  upper: string,
): Generator<Change, void, void> {
  for (const name of listNames([upper])) {
    const found = lookUp([upper], name, PLAIN);
    if (!found) continue;
    const path = JOIN(prefix, name);
    const before = lookUp(lowers, name, OVERLAY);
    if (isWhiteout(found.stat)) {
      if (before) yield { kind: 'delete', path };
      continue;
    }
    const directory = isDirMode(found.stat.mode);
    if (directory && lgetxattr(found.path, 'trusted.overlay.redirect')?.length)
      throw new BuildError("redirect_dir is used but it's not supported in overlayfs differ", {
        code: Code.unimplemented,
      });
    if (!before) yield { kind: 'add', path, entry: found };
    else if (!sameEntry(before, found)) yield { kind: 'modify', path, entry: found };
    if (!directory) continue;
    const hidden = before?.dirs ?? [];
    if (before && isOpaque(found.path)) yield* compareDirs(path, hidden, found.dirs, OVERLAY, OVERLAY);
    else yield* overlayDir(path, hidden, found.path);
  }
}

function* compareDirs(
  prefix: string,
  lower: readonly string[],
  upper: readonly string[],
  lowerRules: ViewRules,
  upperRules: ViewRules,
): Generator<Change, void, void> {
  for (const name of listNames([...lower, ...upper])) {
    const before = lookUp(lower, name, lowerRules);
    const entry = lookUp(upper, name, upperRules);
    const path = JOIN(prefix, name);
    if (!entry) {
      if (before) yield { kind: 'delete', path };
      continue;
    }
    const directory = isDirMode(entry.stat.mode);
    if (!before) yield { kind: 'add', path, entry };
    else if (!sameEntry(before, entry)) yield { kind: 'modify', path, entry };
    else if (!directory && entry.stat.nlink > 1) yield { kind: 'unmodified', path, entry };
    if (directory) yield* compareDirs(path, before?.dirs ?? [], entry.dirs, lowerRules, upperRules);
  }
}
