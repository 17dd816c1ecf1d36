import { isDigest } from '../base/digest.ts';
import { BuildError, Code, hasCode } from '../base/errors.ts';
import type { Compression, ImmutableRef } from '../cache/ref.ts';
import type { CacheTrace } from '../solver/job.ts';
import { isPassing, type KeyBacklink, linkDigest } from '../solver/keystore.ts';
import { type LoadContext, recordsIn } from '../solver/sources.ts';
import { type ChainInput, type ChainItem, type ChainResult, Chains, type LayerStack } from './chains.ts';

/**
 * Which results an export takes (FEATURES E27): `max` those of all steps, whose blobs are made when they are
 * missing; `min` the last one, and of the others those that have their blobs already.
 */
export type ExportMode = 'min' | 'max';

export interface TraceOptions {
  readonly mode: ExportMode;
  readonly compression: Compression;
  /** Holds the blobs. */
  readonly lease: string;
}

/** A cache ready to be written. Its blobs can be read until it is disposed. */
export interface TracedCache extends AsyncDisposable {
  readonly chains: Chains;
}

/** Takes from the caches of a job what leads to the given results; each by the keys where it stands. */
export async function traceCache(
  results: readonly (readonly string[])[],
  trace: CacheTrace<ImmutableRef>,
  options: TraceOptions,
  context: LoadContext,
): Promise<TracedCache> {
  const walk = new Walk(trace, options, context);
  try {
    // All keys of a result are reached in the same ways: one of them says everything.
    for (const [key] of results) if (key !== undefined) await walk.visit(key, options.mode);
  } catch (error) {
    await walk.release();
    throw error;
  }
  return { chains: walk.chains, [Symbol.asyncDispose]: () => walk.release() };
}

/** `ready`: only results that have their blobs. */
type Want = ExportMode | 'ready';

class Walk {
  readonly chains = new Chains();
  readonly #trace: CacheTrace<ImmutableRef>;
  readonly #options: TraceOptions;
  readonly #context: LoadContext;
  /** Items of a key; none while it is being visited, which ends loops. */
  readonly #items = new Map<string, readonly ChainItem[]>();
  readonly #held: ImmutableRef[] = [];

  constructor(trace: CacheTrace<ImmutableRef>, options: TraceOptions, context: LoadContext) {
    this.#trace = trace;
    this.#options = options;
    this.#context = context;
  }

  async release(): Promise<void> {
    await Promise.all(this.#held.splice(0).map((ref) => ref.release()));
  }

  async visit(key: string, want: Want): Promise<readonly ChainItem[]> {
    const known = this.#items.get(key);
    if (known) return known;
    this.#items.set(key, []);
    await undefined; // so that a chain of thousands of steps does not grow the stack
    this.#context.signal.throwIfAborted();
    const items = await this.#find(key, want);
    this.#items.set(key, items);
    return items;
  }

  async #find(key: string, want: Want): Promise<readonly ChainItem[]> {
    const backlinks = this.#trace.sources.flatMap(({ keys }) => keys.backlinks(key));
    if (backlinks.length === 0) return isDigest(key) ? [this.chains.add(key, [])] : [];
    const result = await this.#result(key, want);
    const deeper = result && want === 'min' ? 'ready' : want;
    const items: ChainItem[] = [];
    for (const [digest, links] of byStep(backlinks)) {
      const inputs = await this.#inputs(links, deeper);
      if (inputs.every((ways) => ways.length > 0))
        items.push(this.chains.add(digest, inputs, result ? [result] : []));
    }
    return items;
  }

  async #inputs(links: readonly KeyBacklink[], want: Want): Promise<ChainInput[][]> {
    const count = Math.max(...links.map(({ link }) => link.input)) + 1;
    const inputs: ChainInput[][] = Array.from({ length: count }, () => []);
    for (const { from, link } of links)
      for (const item of await this.visit(from, want))
        inputs[link.input]!.push({ item, selector: link.selector });
    return inputs;
  }

  async #result(key: string, want: Want): Promise<ChainResult | undefined> {
    const edge = this.#trace.keys.get(key);
    if (!edge || edge.exportCache === false) return undefined;
    for (const record of recordsIn(this.#trace.sources, [key])) {
      let ref: ImmutableRef;
      try {
        ref = await record.source.results.load(record.resultId, { ...this.#context, brief: true });
      } catch (error) {
        // Gone, or layers of an imported cache that say too little of themselves.
        if (hasCode(error, Code.notFound) || hasCode(error, Code.invalidArgument)) continue;
        throw error;
      }
      this.#held.push(ref);
      const stack = await this.#stack(ref, want);
      return stack && { stack, createdAt: record.createdAt };
    }
    return undefined;
  }

  /** The layers of `ref`; undefined when they are not ready and not to be made, or gone. */
  async #stack(ref: ImmutableRef, want: Want): Promise<LayerStack | undefined> {
    const { compression, lease } = this.#options;
    const { signal } = this.#context;
    try {
      const create = want !== 'ready';
      const descriptors = await ref.ensureBlobs({ compression, lease, create }, { signal });
      const providers = ref.providers();
      let stack: LayerStack | undefined;
      for (const one of descriptors) {
        const provider = providers.get(one.digest);
        if ((await provider?.has?.(one, { signal })) === false) return undefined;
        stack = this.chains.stack(one, stack, provider);
      }
      return stack;
    } catch (error) {
      if (want === 'ready' && hasCode(error, Code.notFound)) return undefined;
      throw BuildError.wrap(error, 'failed to prepare layers for cache export');
    }
  }
}

/** Links of the same step together; those that nothing could ask for are left out. */
function byStep(links: readonly KeyBacklink[]): Map<string, KeyBacklink[]> {
  const steps = new Map<string, KeyBacklink[]>();
  for (const one of links) {
    if (isPassing(one.link.digest)) continue;
    const digest = linkDigest(one.link);
    const known = steps.get(digest) ?? [];
    known.push(one);
    steps.set(digest, known);
  }
  return steps;
}
