import type { BlobResult } from '../archive/diff.ts';
import type { ArchiveJobs } from '../archive/jobs.ts';
import { annotationTocDigest, annotationUncompressedSize } from '../oci/descriptor.ts';
import type { JobRunner } from '../pool/types.ts';
import type { LocalMounter } from '../store/local-mounter.ts';
import type { BlobFile, LayerJobs, TreeView } from './layer-jobs.ts';

/**
 * Layer work by the archive room's jobs. Overlay directories are read and written as they are; trees that have no
 * such directories are reached through `mounter`.
 */
export function archiveLayerJobs(runner: JobRunner<ArchiveJobs>, mounter: LocalMounter): LayerJobs {
  return {
    warm: () => runner.warm?.(),
    apply: async ({ blob, mounts, overlay, ahead = false }, options) => {
      if (overlay) {
        const { upperDir: target, lowerDirs: parents } = overlay;
        // The lowest layer is mounted by itself, where marks of overlayfs would show as files.
        const whiteouts = ahead || parents.length > 0 ? 'overlay' : 'delete';
        return await runner.run('applyLayer', { blob, target, whiteouts, parents, ahead }, options);
      }
      await using tree = mounter.mount(mounts);
      return await runner.run('applyLayer', { blob, target: tree.path, whiteouts: 'delete' }, options);
    },
    settle: async ({ overlay: { upperDir: target, lowerDirs: parents }, unsettled }, options) => {
      await runner.run('settleLayer', { target, parents, unsettled }, options);
    },
    diff: async ({ lower, upper, overlay, output, form }, options) => {
      const target = {
        blob: output,
        compression: form.type,
        ...(form.level === undefined ? {} : { level: form.level }),
      };
      if (overlay) {
        const { upperDir, lowerDirs } = overlay;
        const input = { ...target, upper: upperDir, lowers: lowerDirs, overlay: true };
        return blobFile(await runner.run('diffLayer', input, options));
      }
      await using below = lower && mounter.mount(lower);
      await using above = upper && mounter.mount(upper);
      const lowers = below ? [below.path] : [];
      const input = { ...target, upper: above?.path, lowers, overlay: false };
      return blobFile(await runner.run('diffLayer', input, options));
    },
    merge: async ({ target, diffs }, options) => {
      await using trees = new AsyncDisposableStack();
      const dirs = new DirTable();
      const places = new Map<TreeView, readonly number[]>();
      const dirsOf = (view: TreeView | undefined): readonly number[] => {
        if (!view) return [];
        const { overlay: layers, mounts } = view;
        const list =
          places.get(view) ??
          dirs.add(layers ? [layers.upperDir, ...layers.lowerDirs] : [trees.use(mounter.mount(mounts)).path]);
        places.set(view, list);
        return list;
      };
      const { overlay } = target;
      const input = {
        target: overlay?.upperDir ?? trees.use(mounter.mount(target.mounts)).path,
        below: overlay?.lowerDirs ?? [],
        diffs: diffs.map(({ lower, upper }) => ({ lower: dirsOf(lower), upper: dirsOf(upper) })),
        overlay: overlay !== undefined,
        dirs: dirs.all,
      };
      return await runner.run('mergeTrees', input, options);
    },
    convert: async ({ blob: source, output: blob, form }, options) => {
      const level = form.level === undefined ? {} : { level: form.level };
      return blobFile(
        await runner.run('convertBlob', { source, blob, compression: form.type, ...level }, options),
      );
    },
  };
}

/** What a job has written, with the annotations of FEATURES J31. */
export function blobFile({
  digest,
  size,
  diffId,
  archiveDigest,
  archiveSize,
  tocDigest,
}: BlobResult): BlobFile {
  const annotations: Record<string, string> = tocDigest
    ? { [annotationTocDigest]: tocDigest, [annotationUncompressedSize]: String(archiveSize) }
    : {};
  return { digest, size, diffId, archiveDigest, annotations };
}

/** Directories by number: layers share most of what they lie on. */
class DirTable {
  readonly all: string[] = [];
  readonly #known = new Map<string, number>();

  add(dirs: readonly string[]): number[] {
    return dirs.map((dir) => {
      const known = this.#known.get(dir);
      if (known !== undefined) return known;
      this.#known.set(dir, this.all.length);
      return this.all.push(dir) - 1;
    });
  }
}
