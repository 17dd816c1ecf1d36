import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BuildError } from '../base/errors.ts';
import { divisibleSource, type TreeSource } from '../session/fsutil/source.ts';
import { comparePaths, type FsStat, GO_DIR, isDir } from '../session/fsutil/stat.ts';
import { type TreeServices, withAttestationFiles } from './attestation-files.ts';
import { type Attrs, boolAttr, type EpochAttr, epochAttr, epochOf } from './attrs.ts';
import type { ExportContext, ExportSource } from './exporter.ts';
import { isMultiRef, refOf, type ResultPlatform, resultPlatforms } from './platforms.ts';

/** The tree of one platform, mounted. */
export interface PlatformTree {
  readonly id: string;
  readonly tree: TreeSource;
  /** Time of everything in it; undefined: its own times. */
  readonly epochNs: bigint | undefined;
}

/** What the two directory exporters have in common. */
export interface TreeAttrs {
  /** undefined: as many directories as the result has platforms. */
  readonly platformSplit: boolean | undefined;
  readonly epoch: EpochAttr | undefined;
  /** Before the names of files that tell of the result. */
  readonly attestationPrefix: string;
}

export function parseTreeAttrs(attrs: Attrs): TreeAttrs {
  const text = attrs['platform-split'];
  const problem = `non-bool value for platform-split: ${text}`;
  const split = text === undefined ? undefined : boolAttr(attrs, 'platform-split', problem);
  const attestationPrefix = attrs['attestation-prefix'] ?? '';
  return { platformSplit: split, epoch: epochAttr(attrs), attestationPrefix };
}

/** Mounts every tree of a result; the stack unmounts them. */
export async function mountTrees(
  source: ExportSource,
  attrs: TreeAttrs,
  services: TreeServices,
  context: ExportContext,
  stack: AsyncDisposableStack,
): Promise<PlatformTree[]> {
  const platforms = resultPlatforms(source);
  if (!isMultiRef(source) && platforms.length > 1)
    throw new BuildError('unable to export multiple platforms without map');
  const trees: PlatformTree[] = [];
  for (const platform of platforms)
    trees.push(await mountOne(source, platform, attrs, services, context, stack));
  return trees;
}

async function mountOne(
  source: ExportSource,
  platform: ResultPlatform,
  attrs: TreeAttrs,
  services: TreeServices,
  context: ExportContext,
  stack: AsyncDisposableStack,
): Promise<PlatformTree> {
  const ref = refOf(source, platform.id);
  let path: string;
  if (ref) {
    const mounted = await services.mount(await ref.mount(true, { signal: context.signal }));
    stack.defer(() => mounted.release());
    path = mounted.path;
  } else {
    path = await mkdtemp(join(tmpdir(), 'buildkit'));
    stack.defer(() => rm(path, { recursive: true, force: true }));
  }
  const epochNs = epochOf(attrs.epoch, source, platform)?.ns;
  const map = (stat: FsStat): void => {
    if (epochNs !== undefined) stat.modTime = epochNs;
  };
  const merges = isMultiRef(source) && attrs.platformSplit === false;
  const { id } = platform;
  const said = source.attestations?.get(id) ?? [];
  const tree = await withAttestationFiles(divisibleSource(path, map), path, said, services, {
    prefix: attrs.attestationPrefix,
    platform: merges ? platformDirectory(id) : '',
    timeNs: epochNs,
    signal: context.signal,
  });
  return { id, tree, epochNs };
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
