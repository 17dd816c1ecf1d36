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
      const dirs = (view: TreeView | undefined): readonly string[] => {
        if (!view) return [];
        if (view.overlay) return [view.overlay.upperDir, ...view.overlay.lowerDirs];
        return [trees.use(mounter.mount(view.mounts)).path];
      };
      const overlay = target.overlay !== undefined;
      const input = {
        target: dirs(target)[0]!,
        below: target.overlay?.lowerDirs ?? [],
        diffs: diffs.map(({ lower, upper }) => ({ lower: dirs(lower), upper: dirs(upper), overlay })),
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
