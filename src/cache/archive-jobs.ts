import type { ArchiveJobs } from '../archive/jobs.ts';
import type { JobRunner } from '../pool/types.ts';
import type { LocalMounter } from '../store/local-mounter.ts';
import type { LayerJobs } from './layer-jobs.ts';

/**
 * Layer work by the archive room's jobs. Overlay directories are read and written as they are; trees that have no
 * such directories are reached through `mounter`.
 */
export function archiveLayerJobs(runner: JobRunner<ArchiveJobs>, mounter: LocalMounter): LayerJobs {
  return {
    apply: async ({ blob, mounts, overlay }, options) => {
      if (overlay) {
        const { upperDir: target, lowerDirs: parents } = overlay;
        return await runner.run('applyLayer', { blob, target, whiteouts: 'overlay', parents }, options);
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
      await using above = mounter.mount(upper);
      const lowers = below ? [below.path] : [];
      return await runner.run('diffLayer', { ...target, upper: above.path, lowers, overlay: false }, options);
    },
    convert: async ({ blob: source, output: blob, form }, options) =>
      await runner.run(
        'convertBlob',
        { source, blob, compression: form.type, ...(form.level === undefined ? {} : { level: form.level }) },
        options,
      ),
  };
}
