import type { ArchiveJobs } from '../archive/jobs.ts';
import type { BlobFile, LayerJobs } from '../cache/layer-jobs.ts';
import type { Mount } from '../oci/mount.ts';
import type { JobRunner } from '../pool/types.ts';
import { LocalMounter, readonlyMounts } from '../store/local-mounter.ts';

/** Layers made and unpacked in worker threads, mounted here where they are not plain directories. */
export function layerJobs(runner: JobRunner<ArchiveJobs>, mountDir: string): LayerJobs {
  const mounter = new LocalMounter(mountDir);
  return {
    apply: async (input, { signal }) => {
      const { overlay, blob } = input;
      if (overlay) {
        const { diffId } = await runner.run(
          'applyLayer',
          { blob, target: overlay.upperDir, whiteouts: 'overlay', parents: overlay.lowerDirs },
          { signal },
        );
        return { diffId };
      }
      await using tree = mounter.mount(input.mounts);
      const { diffId } = await runner.run(
        'applyLayer',
        { blob, target: tree.path, whiteouts: 'delete' },
        { signal },
      );
      return { diffId };
    },
    diff: async (input, { signal }) => {
      const { type, level } = input.form;
      const form = { compression: type, ...(level === undefined ? {} : { level }), blob: input.output };
      if (input.overlay) {
        const { upperDir, lowerDirs } = input.overlay;
        return blobFile(
          await runner.run(
            'diffLayer',
            { upper: upperDir, lowers: lowerDirs, overlay: true, ...form },
            { signal },
          ),
        );
      }
      await using stack = new AsyncDisposableStack();
      const pathOf = (mounts: readonly Mount[]): string =>
        stack.use(mounter.mount(readonlyMounts(mounts))).path;
      const upper = pathOf(input.upper);
      const lowers = input.lower ? [pathOf(input.lower)] : [];
      return blobFile(await runner.run('diffLayer', { upper, lowers, overlay: false, ...form }, { signal }));
    },
    convert: async (input, { signal }) => {
      const { type, level } = input.form;
      const job = {
        source: input.blob,
        compression: type,
        ...(level === undefined ? {} : { level }),
        blob: input.output,
      };
      return blobFile(await runner.run('convertBlob', job, { signal }));
    },
  };
}

function blobFile({ digest, size, diffId }: BlobFile): BlobFile {
  return { digest, size, diffId };
}
