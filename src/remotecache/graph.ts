import { createHash } from 'node:crypto';
import type { Digest } from '../base/digest.ts';
import { notFound } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { BlobProvider, GetByBlobOptions, ImmutableRef, RefManager } from '../cache/ref.ts';
import { together } from '../cache/together.ts';
import { annotationCreatedAt, annotationDescription, type Descriptor } from '../oci/descriptor.ts';
import { parseTime } from '../oci/time.ts';
import {
  COMBINED_OUTPUT,
  type KeyBacklink,
  type KeyGraph,
  type KeyLink,
  type KeyRecord,
  linkDigest,
} from '../solver/keystore.ts';
import type { CacheSource, LoadContext, RecordPart, Results } from '../solver/sources.ts';
import { ancestors, type ChainItem, type Chains, type LayerStack, outputId, stackLayers } from './chains.ts';

/** Blobs of one result that are asked for side by side. */
const PARALLEL_QUESTIONS = 8;

/** How the results of an imported cache become refs. */
export interface ImportedLayers {
  readonly refs: Pick<RefManager, 'getByBlob'>;
  /** Where the bytes of the layers are, on behalf of those who want them. */
  readonly provider: (context: LoadContext) => BlobProvider;
  /** Fetches blobs when a result is loaded: what they come from does not outlive the build. */
  readonly eager: boolean;
}

/**
 * A cache from elsewhere to look things up in (FEATURES E26, K22). Its keys have the same names each time it is
 * imported, so that what was taken over of it is known again.
 */
export function importedCache(chains: Chains, id: string, layers: ImportedLayers): CacheSource<ImmutableRef> {
  const graph = new ImportedGraph(chains, id);
  return { keys: graph, results: new ImportedResults(graph, layers) };
}

interface Step {
  readonly digest: string;
  readonly output: number;
}

class ImportedGraph implements KeyGraph {
  readonly #items = new Map<string, ChainItem>();
  readonly #names: ReadonlyMap<ChainItem, string>;
  /** Digest and output of items, where a look-up has told them. */
  readonly #steps = new Map<ChainItem, Step>();
  readonly #stacks = new Map<string, LayerStack>();
  readonly #id: string;

  constructor(chains: Chains, id: string) {
    this.#id = id;
    this.#names = namesOf(chains);
    for (const [item, name] of this.#names) this.#items.set(name, item);
    for (const item of chains.items)
      for (const { stack } of item.results) this.#stacks.set(this.#resultId(stack), stack);
  }

  query(from: string, link: KeyLink): readonly string[] {
    const item = this.#items.get(from);
    if (!item || item.outputs.size === 0) return [];
    const targets = item.outputs.get(outputId(link.input, linkDigest(link), link.selector)) ?? [];
    return [...targets].map((target) => {
      this.#steps.set(target, link);
      return this.#names.get(target)!;
    });
  }

  records(key: string): readonly KeyRecord[] {
    const results = this.#items.get(key)?.results ?? [];
    return results
      .map(({ stack, createdAt }) => ({ key, resultId: this.#resultId(stack), createdAt }))
      .sort((a, b) => b.createdAt - a.createdAt);
  }

  backlinks(key: string): readonly KeyBacklink[] {
    const item = this.#items.get(key);
    if (!item) return [];
    const { digest, output } = this.#steps.get(item) ?? { digest: item.digest, output: COMBINED_OUTPUT };
    return item.inputs.flatMap((ways, input) =>
      [...ways].flatMap(([source, selectors]) =>
        [...selectors].map((selector) => ({
          from: this.#names.get(source)!,
          link: { input, output, digest, selector },
        })),
      ),
    );
  }

  stack(resultId: string): LayerStack | undefined {
    return this.#stacks.get(resultId);
  }

  /** Records of ancestors of `record` whose layers are the lowest of its own. */
  below(record: KeyRecord): { record: KeyRecord; stack: LayerStack }[] {
    const top = this.#items.get(record.key);
    const main = this.stack(record.resultId);
    if (!top || !main) return [];
    const own = new Set(stackLayers(main).map(({ id }) => id));
    return [...ancestors(top)].flatMap((item) => {
      const key = this.#names.get(item)!;
      return item === top
        ? []
        : item.results
            .filter(({ stack }) => own.has(stack.id))
            .map(({ stack, createdAt }) => ({
              record: { key, resultId: this.#resultId(stack), createdAt },
              stack,
            }));
    });
  }

  /** Results of two imports are never taken for each other: one may load and the other not. */
  #resultId(stack: LayerStack): string {
    return `${this.#id}\0${stack.id}`;
  }
}

/** A root is named by its digest, as keys of steps without inputs are; others by all that they are made from. */
function namesOf(chains: Chains): Map<ChainItem, string> {
  const names = new Map<ChainItem, string>();
  for (const start of chains.items) {
    const stack = [start];
    for (let item = stack.at(-1); item; item = stack.at(-1)) {
      const open = names.has(item)
        ? []
        : item.inputs.flatMap((ways) => [...ways.keys()]).filter((i) => !names.has(i));
      if (open.length > 0) {
        stack.push(...open);
        continue;
      }
      stack.pop();
      if (!names.has(item)) names.set(item, nameOf(item, names));
    }
  }
  return names;
}

function nameOf(item: ChainItem, names: ReadonlyMap<ChainItem, string>): string {
  if (item.inputs.length === 0) return item.digest;
  const inputs = item.inputs.map((ways) =>
    [...ways].flatMap(([source, selectors]) => [...selectors].map((s) => [names.get(source), s])).sort(),
  );
  const hash = createHash('sha256').update(JSON.stringify([item.digest, inputs]));
  return `imported:${hash.digest('hex')}`;
}

class ImportedResults implements Results<ImmutableRef> {
  readonly #graph: ImportedGraph;
  readonly #layers: ImportedLayers;

  constructor(graph: ImportedGraph, layers: ImportedLayers) {
    this.#graph = graph;
    this.#layers = layers;
  }

  async load(id: string, context: LoadContext): Promise<ImmutableRef> {
    const top = this.#graph.stack(id)!;
    const missing = await this.#missing(top, context);
    if (missing !== undefined) throw notFound(`blob ${missing}: not found`);
    const ref = await this.#ref(top, context);
    if (!this.#layers.eager || context.brief) return ref;
    try {
      const { progress } = this.#layers.provider(context);
      await ref.ensureLocalBlobs({ signal: context.signal, ...(progress ? { progress } : {}) });
      return ref;
    } catch (error) {
      await ref.release();
      throw error;
    }
  }

  /** Places that drop blobs as they like are asked first, so that nothing waits for bytes that will not come. */
  async #missing(top: LayerStack, context: LoadContext): Promise<Digest | undefined> {
    const provider = this.#layers.provider(context);
    if (this.#layers.eager || context.brief || !provider.has) return undefined;
    const slots = new Semaphore(PARALLEL_QUESTIONS);
    const answers = await together(
      stackLayers(top).map(({ descriptor }) => async (signal: AbortSignal) => {
        using _slot = await slots.acquire(signal);
        return (await provider.has?.(descriptor, { signal })) ? undefined : descriptor.digest;
      }),
      context.signal,
    );
    return answers.find((digest) => digest !== undefined);
  }

  async parts(record: KeyRecord, context: LoadContext): Promise<readonly RecordPart<ImmutableRef>[]> {
    const parts: RecordPart<ImmutableRef>[] = [];
    try {
      for (const below of this.#graph.below(record)) {
        if ((await this.#missing(below.stack, context)) !== undefined) continue;
        parts.push({ record: below.record, result: await this.#ref(below.stack, context) });
      }
      return parts;
    } catch (error) {
      await Promise.all(parts.map(({ result }) => result.release()));
      throw error;
    }
  }

  async #ref(top: LayerStack, context: LoadContext): Promise<ImmutableRef> {
    const provider = this.#layers.provider(context);
    let current: ImmutableRef | undefined;
    try {
      for (const { descriptor } of stackLayers(top)) {
        const parent: ImmutableRef | undefined = current;
        current = await this.#layers.refs.getByBlob(descriptor, parent, {
          provider,
          ...recordOptions(descriptor),
        });
        await parent?.release();
      }
    } catch (error) {
      await current?.release();
      throw error;
    }
    return current!;
  }
}

function recordOptions({ digest, annotations = {} }: Descriptor): GetByBlobOptions {
  const created = annotations[annotationCreatedAt];
  return {
    description: annotations[annotationDescription] ?? `imported ${digest}`,
    ...(created === undefined ? {} : { createdAt: new Date(Number(parseTime(created).ns / 1_000_000n)) }),
  };
}
