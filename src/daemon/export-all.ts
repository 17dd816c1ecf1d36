import type { CompatibilityVersion } from '../base/compatibility.ts';
import { type Digest, digestOf } from '../base/digest.ts';
import type { Exporter, ExportContext, ExportSource } from '../exporter/exporter.ts';
import type { VertexProgress } from '../solver/types.ts';
import { type CacheExportRun, type CacheExports, inlineCaches } from './cache-exports.ts';
import type { DiskGuard } from './disk-guard.ts';
import type { Recording } from './history/recording.ts';

export interface ExportRun extends CacheExportRun {
  readonly guard: Pick<DiskGuard, 'writing'>;
  readonly version: CompatibilityVersion;
  readonly cacheExports: CacheExports;
  /** Of the result; shown with the first step of the export. */
  readonly warnings: readonly string[];
  readonly recording: Recording | undefined;
}

/** All exporters at once, then what they still have to do (FEATURES B17, B18). Nothing runs on after a failure. */
export async function exportAll(
  exporters: readonly Exporter[],
  source: ExportSource,
  run: ExportRun,
): Promise<Record<string, string>> {
  const response: Record<string, string> = {};
  for (const [key, value] of source.metadata) {
    if (key.startsWith('frontend.')) response[key] = Buffer.from(value).toString();
  }
  const { version, cacheExports } = run;
  const more = { version, ...(cacheExports.inline ? { inlineCache: inlineCaches(run) } : {}) };
  const step = <T>(
    exporter: Exporter,
    index: number,
    work: (context: ExportContext) => Promise<T>,
  ): Promise<T> =>
    run.job.step(exportId(run, index), exporter.name, (progress) =>
      run.guard.writing({ name: exporter.name, contained: false, signal: run.signal }, (signal) =>
        work({ signal, progress, ...more }),
      ),
    );

  if (exporters.length === 0 && run.warnings.length > 0) {
    const title = 'Verifying build result';
    const id = digestOf(`${run.sessionId}-${title}`);
    await run.job.step(id, title, async (progress) => warnAll(run.warnings, id, progress));
  }
  const settled = await Promise.allSettled(
    exporters.map((exporter, i) =>
      step(exporter, i, (context) => {
        if (i === 0) warnAll(run.warnings, exportId(run, i), context.progress);
        return exporter.export(source, context);
      }),
    ),
  );
  try {
    const results = settled.map(settledValue);
    for (const [i, { descriptor }] of results.entries())
      if (descriptor && exporters[i]?.type === 'image') await run.recording?.image(i, descriptor);
    // The images' layers are made: cache exports find them while the images are pushed.
    const caches = run.cacheExports.run(source, run);
    const finalized = await Promise.allSettled([
      ...caches,
      ...results.map(async (result, i) => {
        if (result.finalize) await step(exporters[i]!, i, (c) => result.finalize!(c));
        return result.response;
      }),
    ]);
    Object.assign(response, ...finalized.map(settledValue));
    return response;
  } finally {
    for (const outcome of settled) if (outcome.status === 'fulfilled') outcome.value.release();
  }
}

function exportId(run: ExportRun, index: number): Digest {
  return digestOf(`${run.sessionId}-export-${index}`);
}

function warnAll(texts: readonly string[], vertex: Digest, progress: VertexProgress): void {
  for (const text of texts)
    progress.warn({ vertex, level: 0, short: Buffer.from(text), detail: [], url: '', ranges: [] });
}

function settledValue<T>(outcome: PromiseSettledResult<T>): T {
  if (outcome.status === 'rejected') throw outcome.reason;
  return outcome.value;
}
