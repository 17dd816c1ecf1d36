import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { goJson } from '../base/gojson.ts';
import { basePath, compareText } from '../llb/gopath.ts';
import { copyJson, mkdirJson, mkfileJson, rmJson, symlinkJson } from '../llb/json.ts';
import type { ChownOpt, FileAction, FileOp } from '../llb/ops.ts';
import { type ContentSelector, selectPath } from '../cache/content-selector.ts';
import { dedupePaths, type KeyDep } from './selector-key.ts';

/** Digest of a file step with `inputs` inputs (FEATURES E7). */
export function fileDigest(op: FileOp, inputs: number): Digest {
  const actions = op.actions.map((action) => {
    const json = actionJson(action, inputs);
    return json === undefined ? null : Buffer.from(goJson(json));
  });
  const indexes = op.actions.map((a) => [a.input, a.secondaryInput, a.output]);
  const key = {
    Type: 'buildkit.file.v0',
    Actions: actions,
    indexes: indexes.length === 0 || isUsualChain(op.actions) ? undefined : indexes,
  };
  return digestOf(goJson(key));
}

function actionJson({ action, secondaryInput }: FileAction, inputs: number): unknown {
  switch (action?.$case) {
    case 'copy': {
      const fromInput = secondaryInput !== -1n && secondaryInput < BigInt(inputs);
      const { src } = action.value;
      // The content key tells what was copied.
      return copyJson({ ...action.value, src: fromInput ? basePath(src) : src });
    }
    case 'mkfile':
      return mkfileJson(action.value);
    case 'mkdir':
      return mkdirJson(action.value);
    case 'symlink':
      return symlinkJson(action.value);
    case 'rm':
      return rmJson(action.value);
    default:
      return undefined;
  }
}

/**
 * Every action works on the one before, the first on input 0, copies come from input 1. Such indexes have
 * always been left out; the offset is the number of actions, as it has always been.
 */
function isUsualChain(actions: readonly FileAction[]): boolean {
  return actions.every((action, i) => {
    const from = i === 0 ? 0 : actions.length + i - 1;
    const output = i === actions.length - 1 ? 0n : -1n;
    const second = action.secondaryInput;
    return action.input === BigInt(from) && (second === -1n || second === 1n) && action.output === output;
  });
}

/** How each of the `inputs` inputs counts: copied ones by content, unless they are changed as well. */
export function fileDeps(op: FileOp, inputs: number): KeyDep[] {
  const selectors = new Map<number, ContentSelector[]>();
  const changed = new Set<number>();
  const select = (input: bigint, selector: ContentSelector): void => {
    const index = Number(input);
    if (index < 0 || index >= inputs) {
      throw new BuildError(`invalid input index ${index} in file op with ${inputs} inputs`);
    }
    selectors.set(index, [...(selectors.get(index) ?? []), selector]);
  };
  for (const { action, input, secondaryInput } of op.actions) {
    if (!action) continue;
    changed.add(Number(input));
    if (action.$case === 'rm' || action.$case === 'symlink') continue;
    selectOwner(action.value.owner, select);
    if (action.$case !== 'copy' || secondaryInput === -1n || secondaryInput >= BigInt(inputs)) continue;
    const { src, allowWildcard, followSymlink, includePatterns, excludePatterns, requiredPaths } =
      action.value;
    const wildcard = allowWildcard && hasWildcards(src);
    const base = selectPath(src, followSymlink);
    select(secondaryInput, { ...base, wildcard, includePatterns, excludePatterns, requiredPaths });
  }
  return Array.from({ length: inputs }, (_, i) => {
    const selected = selectors.get(i);
    if (!selected || changed.has(i)) return { selector: '', content: undefined };
    const paths = selected.map(({ path }) => path).sort(compareText);
    return { selector: digestOf(paths.reverse().join('\0')), content: dedupeSelectors(selected) };
  });
}

function selectOwner(
  owner: ChownOpt | undefined,
  select: (input: bigint, selector: ContentSelector) => void,
): void {
  const files = [
    [owner?.user, '/etc/passwd'],
    [owner?.group, '/etc/group'],
  ] as const;
  for (const [user, path] of files) {
    if (user?.user?.$case !== 'byName') continue;
    const { input } = user.user.value;
    if (input < 0n) return; // names without a tree to look them up in: the step itself is refused
    select(input, selectPath(path, true));
  }
}

function hasWildcards(path: string): boolean {
  return /[*?[]/.test(path.replace(/\\[\s\S]/g, ''));
}

/** Plain paths without those below another one, then those with wildcards or patterns, all by path. */
function dedupeSelectors(selectors: readonly ContentSelector[]): ContentSelector[] {
  const isPlain = (s: ContentSelector): boolean =>
    !s.wildcard && s.includePatterns.length === 0 && s.excludePatterns.length === 0;
  const plain = selectors.filter(isPlain);
  const paths = (followLinks: boolean): ContentSelector[] =>
    dedupePaths(plain.filter((s) => s.followLinks === followLinks).map((s) => s.path)).map((path) =>
      selectPath(path, followLinks),
    );
  const all = [...paths(false), ...paths(true), ...selectors.filter((s) => !isPlain(s))];
  return all.sort((a, b) => compareText(a.path, b.path));
}
