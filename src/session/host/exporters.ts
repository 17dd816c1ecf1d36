import { BuildError, Code } from '../../base/errors.ts';
import { ExporterDefinition, type ExporterRequest } from '../../pb/exporter.ts';
import { type RegisteredService, service } from '../../rpc/server.ts';

/** What a client does with a result beside what it asked for at first (FEATURES C23). */
export interface ExportChoice {
  /** Chooses more exporters. `refs` are names of the result's trees. */
  readonly choose?: (
    metadata: Readonly<Record<string, Uint8Array>>,
    refs: readonly string[],
  ) => Promise<readonly ExporterRequest[]>;
  /** Told what all exporters of the build answered; the build fails when it throws. */
  readonly finish?: (response: Readonly<Record<string, string>>) => Promise<void>;
}

/** Lets the client take part when a result is exported. */
export function exporterService({ choose, finish }: ExportChoice): RegisteredService {
  return service(ExporterDefinition, {
    findExporters: async ({ metadata, refs }) => ({
      exporters: choose ? [...(await choose(metadata, refs))] : [],
    }),
    finalizeExport: async ({ exporterResponse }) => {
      // Daemons take this for a client that does not want to know.
      if (!finish) throw new BuildError('nobody waits for the end of exports', { code: Code.unimplemented });
      await finish(exporterResponse);
      return {};
    },
  });
}
