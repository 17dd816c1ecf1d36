import { invalidArgument } from '../base/errors.ts';
import { parseBool } from '../base/flags.ts';
import type { RegisteredService } from '../rpc/server.ts';
import type { RemoteContent } from '../session/content.ts';
import { contentDirectory } from '../session/host/content-directory.ts';
import { exporterService } from '../session/host/exporters.ts';
import { type ExportTarget, fileSendService } from '../session/host/filesend.ts';
import type { ExportEntry, SolveRequest } from './solve-types.ts';

/** Name under which the daemon asks for the content store of an image output. */
const EXPORT_STORE = 'export';

/** Where a client puts the results of a build: those it asked for, and those it chooses when it knows the result. */
export class Outputs {
  readonly #request: SolveRequest;
  readonly #entries: ExportEntry[] = [];
  readonly #targets = new Map<number, ExportTarget>();
  /** Stores by the name that the daemon asks for; filled as entries come. */
  readonly stores: Map<string, RemoteContent>;

  constructor(request: SolveRequest, stores: Map<string, RemoteContent>) {
    this.#request = request;
    this.stores = stores;
    for (const entry of request.exports ?? []) this.#add(entry);
  }

  #add(entry: ExportEntry): void {
    const target = targetOf(entry);
    if (target) this.#targets.set(this.#entries.length, target);
    if (isLayout(entry)) this.stores.set(EXPORT_STORE, contentDirectory(entry.outputDir!));
    this.#entries.push(entry);
  }

  services(): RegisteredService[] {
    const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const { chooseExports: choose, onExported: finish } = this.#request;
    const services: RegisteredService[] = [];
    if (this.#targets.size > 0 || choose) services.push(fileSendService(this.#targets, owner));
    if (choose || finish)
      services.push(
        exporterService({
          ...(choose && { choose: async (metadata, refs) => this.#choose(await choose({ metadata, refs })) }),
          ...(finish && { finish: async (response) => finish(response) }),
        }),
      );
    return services;
  }

  #choose(chosen: readonly ExportEntry[]): { Type: string; Attrs: Record<string, string> }[] {
    for (const entry of chosen) checkOutput(entry);
    for (const entry of chosen) this.#add(entry);
    return chosen.map(({ type, attrs }) => ({ Type: type, Attrs: { ...attrs } }));
  }

  /** Names what was put into layout folders. */
  async indexLayouts(response: Readonly<Record<string, string>>): Promise<void> {
    const text = response['containerimage.descriptor'];
    const dirs = this.#entries.filter(isLayout).flatMap(({ outputDir }) => outputDir ?? []);
    if (!text || dirs.length === 0) return;
    const { putIntoIndex } = await import('../ocilayout/index-file.ts');
    const descriptor = JSON.parse(Buffer.from(text, 'base64').toString());
    const names = response['image.name']?.split(',').map((name) => ({ name })) ?? [{ tag: 'latest' }];
    for (const dir of dirs) putIntoIndex(dir, descriptor, names);
  }
}

/** @throws BuildError for an output that its exporter does not have */
export function checkOutput(entry: ExportEntry): void {
  const { type, output, outputDir } = entry;
  const dir = type === 'local' || isLayout(entry);
  const file = !dir && (type === 'oci' || type === 'docker' || type === 'tar');
  if (output && !file) throw invalidArgument(`output file writer is not supported by ${type} exporter`);
  if (outputDir !== undefined && !dir)
    throw invalidArgument(`output directory is not supported by ${type} exporter`);
  if (file && !output) throw invalidArgument(`output file writer is required for ${type} exporter`);
  if (dir && !outputDir) throw invalidArgument(`output directory is required for ${type} exporter`);
}

/** An image as blobs in a folder. */
function isLayout({ type, attrs }: ExportEntry): boolean {
  return (type === 'oci' || type === 'docker') && parseBool(attrs.tar ?? '') === false;
}

function targetOf(entry: ExportEntry): ExportTarget | undefined {
  if (entry.output) return { kind: 'file', open: entry.output };
  if (entry.outputDir === undefined || isLayout(entry)) return undefined;
  const mode = entry.attrs.mode ?? '';
  if (mode !== '' && mode !== 'copy' && mode !== 'delete')
    throw invalidArgument(`invalid local exporter mode ${JSON.stringify(mode)}`);
  return { kind: 'directory', dir: entry.outputDir, ...(mode === 'delete' ? { mirror: true } : {}) };
}
