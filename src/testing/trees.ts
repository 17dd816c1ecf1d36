import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { ImmutableRef, RefManager } from '../cache/ref.ts';
import { isDirMode, isRegularMode, isSymlinkMode, lstat } from '../sys/stat.ts';
import { readXattrs } from '../sys/xattr.ts';
import { withMounted } from './contracts/snapshot.ts';

/** A new ref on `parent` (null: on nothing) in whose tree the shell lines `script`, then `more`, ran. */
export async function shellLayer(
  refs: RefManager,
  parent: ImmutableRef | null,
  script: string,
  more: (dir: string) => void = () => {},
): Promise<ImmutableRef> {
  await using mutable = await refs.newMutable(parent ?? undefined, { description: script.split('\n')[0]! });
  await using mounts = await mutable.mount(false);
  withMounted(mounts.mounts, (dir) => {
    execFileSync('bash', ['-euc', script], { cwd: dir });
    more(dir);
  });
  return await mutable.commit();
}

/** Runs `use` in the tree of a ref. */
export async function inTree<T>(ref: ImmutableRef, use: (dir: string) => T): Promise<T> {
  await using mounts = await ref.mount(true);
  return withMounted(mounts.mounts, use);
}

/**
 * One line per path below `dir`: what users can see of it, with times in whole seconds as layers have them. A new
 * time alone puts no directory into a layer.
 */
export function describeTree(dir: string, prefix = ''): string[] {
  return readdirSync(`${dir}/${prefix}`)
    .sort()
    .flatMap((name) => {
      const path = `${prefix}${name}`;
      const full = `${dir}/${path}`;
      const stat = lstat(full);
      const what = isRegularMode(stat.mode)
        ? readFileSync(full, 'utf8').trim()
        : isSymlinkMode(stat.mode)
          ? `-> ${readlinkSync(full)}`
          : `${stat.rdevMajor}:${stat.rdevMinor}`;
      const xattrs = Object.entries(readXattrs(full) ?? {}).map(([key, value]) => `${key}=${value}`);
      const time = isDirMode(stat.mode) ? '' : stat.mtimeSec;
      const line = [path, stat.mode.toString(8), stat.uid, stat.gid, time, what, ...xattrs];
      return [line.join(' '), ...(isDirMode(stat.mode) ? describeTree(dir, `${path}/`) : [])];
    });
}

export const treeOf = (ref: ImmutableRef): Promise<string[]> => inTree(ref, (dir) => describeTree(dir));
