import type { ArchiveJobs } from '../archive/jobs.ts';
import type { JobRunner } from '../pool/types.ts';
import type { LocalMounter } from '../store/local-mounter.ts';
import type { LayerJobs, TreeView } from './layer-jobs.ts';

/**
 * Layer work by the archive room's jobs. Overlay directories are read and written as they are; trees that have no
 * such directories are reached through `mounter`.
 */
export function archiveLayerJobs(runner: JobRunner<ArchiveJobs>, mounter: LocalMounter): LayerJobs {
  return {
    apply: async ({ blob, mounts, overlay }, options) => {
      if (overlay) {
        const { upperDir: target, lowerDirs: parents } = overlay;
        // The lowest layer is mounted by itself, where marks of overlayfs would show as files.
        const whiteouts = parents.length > 0 ? 'overlay' : 'delete';
        return await runner.run('applyLayer', { blob, target, whiteouts, parents }, options);
      }
      await using tree = mounter.mount(mounts);
      return await runner.run('applyLayer', { blob, target: tree.path, whiteouts: 'delete' }, options);
    },
    diff: async ({ lower, upper, overlay, output, form }, options) => {
      const target = {
        blob: output,
        compression: form.type,
        ...(form.level === undefined ? {} : { level: form.level }),
      };
      if (overlay) {
        const { upperDir, lowerDirs } = overlay;
        return await runner.run(
          'diffLayer',
          { ...target, upper: upperDir, lowers: lowerDirs, overlay: true },
          options,
        );
      }
      await using below = lower && mounter.mount(lower);
      await using above = upper && mounter.mount(upper);
      const lowers = below ? [below.path] : [];
      return await runner.run(
        'diffLayer',
        { ...target, upper: above?.path, lowers, overlay: false },
        options,
      );
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
    convert: async ({ blob: source, output: blob, form }, options) =>
      await runner.run(
        'convertBlob',
        { source, blob, compression: form.type, ...(form.level === undefined ? {} : { level: form.level }) },
        options,
      ),
  };
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
