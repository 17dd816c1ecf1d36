import type { Digest } from '../base/digest.ts';
import { invalidArgument } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type ChainInput, type ChainItem, type ChainResult, Chains, type LayerStack } from './chains.ts';
import { type CacheConfig, type ConfigRecord, NO_PARENT } from './config.ts';

/**
 * Rebuilds a cache from its config (FEATURES K4). Results with a blob that is not among `blobs` are left out.
 * @throws invalidArgument for indexes that lead nowhere or round
 */
export function parseChains(config: CacheConfig, blobs: ReadonlyMap<Digest, Descriptor>): Chains {
  const chains = new Chains();
  const stacks = new Stacks(config, blobs, chains);
  const items = new Map<number, ChainItem | 'open'>();
  for (const [start] of config.records.entries()) {
    const stack = [{ index: start, entered: false }];
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const { index } = top;
      const known = items.get(index);
      if (known && known !== 'open') {
        stack.pop();
        continue;
      }
      const record = config.records[index];
      if (!record) throw invalidArgument(`invalid record ID: ${index}`);
      if (top.entered) {
        items.set(index, addRecord(chains, record, items, stacks));
        stack.pop();
        continue;
      }
      if (known === 'open') throw invalidArgument('invalid looping record');
      items.set(index, 'open');
      top.entered = true;
      for (const alternatives of record.inputs.toReversed()) {
        if (alternatives.length === 0) throw invalidArgument(`invalid empty input for record ${index}`);
        for (const { link } of alternatives.toReversed())
          if (!isDone(items.get(link))) stack.push({ index: link, entered: false });
      }
    }
  }
  return chains;
}

function isDone(item: ChainItem | 'open' | undefined): boolean {
  return item !== undefined && item !== 'open';
}

function addRecord(
  chains: Chains,
  record: ConfigRecord,
  items: ReadonlyMap<number, ChainItem | 'open'>,
  stacks: Stacks,
): ChainItem {
  const inputs = record.inputs.map((alternatives) =>
    alternatives.map(({ selector, link }): ChainInput => ({ item: items.get(link) as ChainItem, selector })),
  );
  const results: ChainResult[] = [];
  for (const { layer, createdAt } of record.results) {
    const stack = stacks.of(layer);
    if (stack) results.push({ stack, createdAt });
  }
  for (const { layers, createdAt } of record.chains) {
    const stack = stacks.list(layers);
    if (stack) results.push({ stack, createdAt });
  }
  return chains.add(record.digest, inputs, results);
}

/** Stacks of a config's layers, each made once. */
class Stacks {
  readonly #config: CacheConfig;
  readonly #blobs: ReadonlyMap<Digest, Descriptor>;
  readonly #chains: Chains;
  readonly #known = new Map<number, LayerStack | undefined>();

  constructor(config: CacheConfig, blobs: ReadonlyMap<Digest, Descriptor>, chains: Chains) {
    this.#config = config;
    this.#blobs = blobs;
    this.#chains = chains;
  }

  /** The layer with its parents; undefined when a blob is missing. */
  of(top: number): LayerStack | undefined {
    const open: number[] = [];
    const seen = new Set<number>();
    let at = top;
    while (at !== NO_PARENT && !this.#known.has(at)) {
      if (seen.has(at)) throw invalidArgument('invalid looping layer');
      seen.add(at);
      const layer = this.#layer(at);
      open.push(at);
      // What lies below a blob that is not there does not matter.
      if (!this.#blobs.has(layer.blob)) break;
      at = layer.parent;
    }
    for (const index of open.reverse()) {
      const layer = this.#layer(index);
      const descriptor = this.#blobs.get(layer.blob);
      const parent = layer.parent === NO_PARENT ? undefined : this.#known.get(layer.parent);
      const lost = !descriptor || (layer.parent !== NO_PARENT && !parent);
      this.#known.set(index, lost ? undefined : this.#chains.stack(descriptor, parent, undefined));
    }
    if (top === NO_PARENT) throw invalidArgument(`invalid layer index ${top}`);
    return this.#known.get(top);
  }

  /** Exactly the listed layers, bottom up. */
  list(indexes: readonly number[]): LayerStack | undefined {
    let stack: LayerStack | undefined;
    for (const index of indexes) {
      const descriptor = this.#blobs.get(this.#layer(index).blob);
      if (!descriptor) return undefined;
      stack = this.#chains.stack(descriptor, stack, undefined);
    }
    return stack;
  }

  #layer(index: number): CacheConfig['layers'][number] {
    const layer = this.#config.layers[index];
    if (!layer) throw invalidArgument(`invalid layer index ${index}`);
    return layer;
  }
}
