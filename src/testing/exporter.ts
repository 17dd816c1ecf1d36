import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { archiveJobs } from '../archive/jobs.ts';
import { type Digest, digestOf } from '../base/digest.ts';
import type { LocalRefManager } from '../cache/manager.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { createExporter } from '../exporter/create.ts';
import type { ExportContext, ExportSource, ExportTarget, FileSink } from '../exporter/exporter.ts';
import { exporterJobs } from '../exporter/jobs.ts';
import { anonymous } from '../registry/credentials.ts';
import { Registry } from '../registry/registry.ts';
import type { TreeSource } from '../session/fsutil/source.ts';
import type { OpContext, StatusUpdate } from '../solver/types.ts';
import { LocalMounter } from '../store/local-mounter.ts';
import type { Store } from '../store/store.ts';
import { openTestCache } from './cache.ts';
import { withMounted } from './contracts/snapshot.ts';
import { inlineJobs, openTestStore, temporaryRoot } from './store.ts';

/** A store, refs and what exporters need, in a temporary folder. */
export interface Bench extends AsyncDisposable {
  readonly store: Store;
  readonly refs: LocalRefManager;
  readonly registry: Registry;
  readonly dir: string;
  readonly statuses: string[];
  readonly context: ExportContext & OpContext;
  layer(parent: ImmutableRef | undefined, fill: (dir: string) => void): Promise<ImmutableRef>;
  services(): Parameters<typeof createExporter>[2];
}

export async function bench(): Promise<Bench> {
  const stack = new AsyncDisposableStack();
  const root = stack.use(temporaryRoot());
  const store = openTestStore(root.path);
  stack.defer(() => store.close());
  const refs = openTestCache(store);
  stack.defer(() => refs.close());
  const registry = new Registry({ registries: {}, userAgent: 'buildkit/test' });
  stack.defer(() => registry.close());
  const dir = mkdtempSync(join(tmpdir(), 'export-'));
  stack.defer(() => rmSync(dir, { recursive: true }));
  const statuses: string[] = [];
  const mounter = new LocalMounter(join(dir, 'mounts'));
  const progress = {
    log: (_stream: 1 | 2, data: Uint8Array) => void statuses.push(Buffer.from(data).toString()),
    status: (id: string, update: StatusUpdate) => void (update.done && statuses.push(id)),
    warn: () => {},
  };
  const context = {
    signal: AbortSignal.timeout(60_000),
    progress,
    sessions: () => [],
    vertex: digestOf('vertex'),
  };
  return {
    store,
    refs,
    registry,
    dir,
    statuses,
    context,
    async layer(parent, fill) {
      const mutable = await refs.newMutable(parent, { description: 'RUN fill' });
      await using view = await mutable.mount(false);
      withMounted(view.mounts, fill);
      await view.release();
      const ref = await mutable.commit();
      stack.defer(() => ref.release());
      return ref;
    },
    services: () => ({
      content: store.content,
      leases: store.leases,
      registry,
      jobs: inlineJobs({ ...archiveJobs, ...exporterJobs }),
      mount: async (view) => {
        const mounted = mounter.mount(view.mounts);
        return {
          path: mounted.path,
          release: async () => {
            await mounted[Symbol.asyncDispose]();
            await view.release();
          },
        };
      },
    }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** What a client would have got. */
export interface Caught extends ExportTarget {
  readonly files: Buffer[];
  readonly tree: Map<string, string>;
  readonly transfers: { paths: string[]; deleteOthers: boolean }[];
  readonly blobs: Map<Digest, number>;
}

export function target(over: Partial<ExportTarget> = {}): Caught {
  const files: Buffer[] = [];
  const tree = new Map<string, string>();
  const transfers: Caught['transfers'] = [];
  const blobs = new Map<Digest, number>();
  return {
    files,
    tree,
    transfers,
    blobs,
    credentials: anonymous,
    openFile: async (): Promise<FileSink> => {
      const chunks: Uint8Array[] = [];
      return {
        write: async (chunk) => void chunks.push(Buffer.from(chunk)),
        close: async () => void files.push(Buffer.concat(chunks)),
        [Symbol.asyncDispose]: async () => {},
      };
    },
    sendDirectory: async (source: TreeSource, { deleteOthers }) => {
      const paths: string[] = [];
      transfers.push({ paths, deleteOthers });
      for await (const stat of source.entries()) {
        paths.push(stat.path);
        let text = '';
        if (stat.size > 0 && stat.linkname === '')
          for await (const chunk of source.read(stat.path)) text += Buffer.from(chunk).toString();
        tree.set(stat.path, stat.linkname || text);
      }
    },
    contentStore: async () => ({
      put: async ({ digest }, data) => {
        let size = 0;
        for await (const chunk of data) size += chunk.length;
        blobs.set(digest, size);
      },
    }),
    ...over,
  };
}

export function result(ref: ImmutableRef | null, metadata: Record<string, string> = {}): ExportSource {
  const bytes = Object.entries(metadata).map(([k, v]) => [k, Buffer.from(v)] as const);
  return { ref, metadata: new Map(bytes) };
}
