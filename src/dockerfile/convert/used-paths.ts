import { compareText, joinPath } from '../../llb/gopath.ts';

/** The paths as a client takes them: relative and sorted; undefined is everything. */
export function usedPaths(paths: ReadonlySet<string>): readonly string[] | undefined {
  if (paths.size === 0 || paths.has('/')) return undefined;
  const relative = [...paths].map((path) => joinPath('.', path));
  return relative.sort(compareText);
}
