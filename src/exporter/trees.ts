import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BuildError } from '../base/errors.ts';
import { directorySource, type TreeSource } from '../session/fsutil/source.ts';
import { comparePaths, type FsStat, GO_DIR, isDir } from '../session/fsutil/stat.ts';
import { epochOf, type EpochAttr } from './attrs.ts';
import type { ExportContext, ExportSource, MountTree } from './exporter.ts';
import { isMultiRef, refOf, type ResultPlatform, resultPlatforms } from './platforms.ts';

/** The tree of one platform, mounted. */
export interface PlatformTree {
  readonly id: string;
  readonly tree: TreeSource;
  /** Time of everything in it; undefined: its own times. */
  readonly epochNs: bigint | undefined;
}

/** Mounts every tree of a result; the stack unmounts them. */
export async function mountTrees(
  source: ExportSource,
  epoch: EpochAttr | undefined,
  mount: MountTree,
  context: ExportContext,
  stack: AsyncDisposableStack,
): Promise<PlatformTree[]> {
  const platforms = resultPlatforms(source);
  if (!isMultiRef(source) && platforms.length > 1)
    throw new BuildError('unable to export multiple platforms without map');
  const trees: PlatformTree[] = [];
  for (const platform of platforms)
    trees.push(await mountOne(source, platform, epoch, mount, context, stack));
  return trees;
}

async function mountOne(
  source: ExportSource,
  platform: ResultPlatform,
  epoch: EpochAttr | undefined,
  mount: MountTree,
  context: ExportContext,
  stack: AsyncDisposableStack,
): Promise<PlatformTree> {
  const ref = refOf(source, platform.id);
  let path: string;
  if (ref) {
    const mounted = await mount(await ref.mount(true, { signal: context.signal }));
    stack.defer(() => mounted.release());
    path = mounted.path;
  } else {
    path = await mkdtemp(join(tmpdir(), 'buildkit'));
    stack.defer(() => rm(path, { recursive: true, force: true }));
  }
  const epochNs = epochOf(epoch, source, platform)?.ns;
  const map = (stat: FsStat): boolean => {
    if (epochNs !== undefined) stat.modTime = epochNs;
    return true;
  };
  return { id: platform.id, tree: directorySource(path, { map }), epochNs };
}

/** `linux_amd64` */
export function platformDirectory(id: string): string {
  return id.replaceAll('/', '_');
}

/** All trees in one, each below a directory of its platform. */
export function joinUnderPlatforms(trees: readonly PlatformTree[]): TreeSource {
  const sorted = trees
    .map((one) => ({ ...one, dir: platformDirectory(one.id) }))
    .sort((a, b) => comparePaths(a.dir, b.dir));
  return {
    async *entries() {
      for (const { dir, tree, epochNs } of sorted) {
        yield directoryStat(dir, epochNs);
        for await (const stat of tree.entries()) {
          const isHardLink = stat.linkname !== '' && (stat.mode & GO_SYMLINK_BIT) === 0;
          const linkname = isHardLink ? `${dir}/${stat.linkname}` : stat.linkname;
          yield { ...stat, path: `${dir}/${stat.path}`, linkname };
        }
      }
    },
    read(path) {
      const slash = path.indexOf('/');
      const owner = sorted.find(({ dir }) => dir === path.slice(0, slash));
      if (!owner) throw new BuildError(`no such file: ${path}`);
      return owner.tree.read(path.slice(slash + 1));
    },
  };
}

const GO_SYMLINK_BIT = 0x0800_0000;

function directoryStat(path: string, epochNs: bigint | undefined): FsStat {
  return {
    path,
    mode: (GO_DIR | 0o755) >>> 0,
    uid: 0,
    gid: 0,
    size: 0,
    modTime: epochNs ?? 0n,
    linkname: '',
    devmajor: 0,
    devminor: 0,
    xattrs: undefined,
  };
}

/** All trees laid over one another. @throws when two have the same file */
export async function mergeTrees(trees: readonly PlatformTree[]): Promise<TreeSource> {
  const found = new Map<string, { stat: FsStat; from: PlatformTree }>();
  for (const from of trees) {
    for await (const stat of from.tree.entries()) {
      const other = found.get(stat.path);
      if (other && !(isDir(stat.mode) && isDir(other.stat.mode)))
        throw new BuildError(
          `cannot overwrite ${stat.path} from ${other.from.id} with ${from.id} when split option is disabled`,
        );
      if (!other) found.set(stat.path, { stat, from });
    }
  }
  const paths = [...found.keys()].sort(comparePaths);
  return {
    *entries() {
      for (const path of paths) yield found.get(path)!.stat;
    },
    read: (path) => found.get(path)!.from.tree.read(path),
  };
}
