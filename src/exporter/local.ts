import { BuildError } from '../base/errors.ts';
import type { TreeSource } from '../session/fsutil/source.ts';
import type { TreeServices } from './attestation-files.ts';
import type { Attrs } from './attrs.ts';
import type { ExportContext, Exporter, ExportResult, ExportSource, ExportTarget } from './exporter.ts';
import { isMultiRef } from './platforms.ts';
import {
  joinUnderPlatforms,
  mergeTrees,
  mountTrees,
  parseTreeAttrs,
  type PlatformTree,
  type TreeAttrs,
} from './trees.ts';

const PROGRESS_INTERVAL_MS = 100;

/** One tree of all: below platform directories, or merged. */
export async function oneTree(trees: readonly PlatformTree[], split: boolean): Promise<TreeSource> {
  if (split) return joinUnderPlatforms(trees);
  const [only] = trees;
  return trees.length === 1 && only ? only.tree : mergeTrees(trees);
}

interface Transfer {
  readonly label: string;
  readonly tree: TreeSource;
}

/** Files into a directory of the client (FEATURES J19). */
export class LocalExporter implements Exporter {
  readonly type = 'local';
  readonly name = 'exporting to client directory';
  readonly attrs: Attrs;
  readonly #parsed: TreeAttrs;
  readonly #deleteOthers: boolean;
  readonly #services: TreeServices;
  readonly #target: Pick<ExportTarget, 'sendDirectory'>;

  /** @throws for attributes that have a bad value */
  constructor(attrs: Attrs, services: TreeServices, target: Pick<ExportTarget, 'sendDirectory'>) {
    this.attrs = attrs;
    this.#parsed = parseTreeAttrs(attrs);
    const mode = attrs.mode ?? 'copy';
    if (!['', 'copy', 'delete'].includes(mode)) throw new BuildError(`invalid local exporter mode: ${mode}`);
    this.#deleteOthers = mode === 'delete';
    this.#services = services;
    this.#target = target;
  }

  async export(source: ExportSource, context: ExportContext): Promise<ExportResult> {
    await using stack = new AsyncDisposableStack();
    const trees = await mountTrees(source, this.#parsed, this.#services, context, stack);
    const split = this.#parsed.platformSplit ?? isMultiRef(source);
    const transfers = await this.#transfersOf(trees, split);
    const failed = new AbortController();
    const signal = AbortSignal.any([context.signal, failed.signal]);
    const settled = await Promise.allSettled(
      transfers.map(async ({ label, tree }) => {
        try {
          await this.#send(label, tree, { ...context, signal });
        } catch (error) {
          failed.abort(error);
          throw error;
        }
      }),
    );
    if (settled.some(({ status }) => status === 'rejected'))
      throw failed.signal.aborted ? failed.signal.reason : context.signal.reason;
    return { response: {}, release: () => {} };
  }

  /** One per platform. What is to be mirrored goes at once: the client removes all that a transfer does not hold. */
  async #transfersOf(trees: readonly PlatformTree[], split: boolean): Promise<Transfer[]> {
    if (this.#deleteOthers) return [{ label: 'copying files', tree: await oneTree(trees, split) }];
    if (split)
      return trees.map((one) => ({ label: `copying files ${one.id}`, tree: joinUnderPlatforms([one]) }));
    if (trees.length > 1) await mergeTrees(trees); // for its check
    return trees.map(({ tree }) => ({ label: 'copying files', tree }));
  }

  async #send(label: string, tree: TreeSource, context: ExportContext): Promise<void> {
    let shown = 0;
    let sent = 0;
    const { progress, signal } = context;
    progress.status(label, { name: 'transferring', current: 0 });
    try {
      await this.#target.sendDirectory(tree, {
        signal,
        deleteOthers: this.#deleteOthers,
        onProgress: (bytes, done) => {
          sent = bytes;
          const now = Date.now();
          if (!done && now - shown < PROGRESS_INTERVAL_MS) return;
          shown = now;
          progress.status(label, { name: 'transferring', current: bytes });
        },
      });
    } finally {
      progress.status(label, { name: 'transferring', current: sent, done: true });
    }
  }
}
