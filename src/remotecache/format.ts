import type { Digest } from '../base/digest.ts';
import { type ChainItem, type Chains, type LayerStack, stackLayers } from './chains.ts';
import {
  type CacheConfig,
  type ConfigInput,
  type ConfigLayer,
  type ConfigRecord,
  NO_PARENT,
} from './config.ts';

/** A cache as a config, with the stacks that its layers stand for, in the same order. */
export interface FormattedCache {
  readonly config: CacheConfig;
  readonly layers: readonly LayerStack[];
}

/** Puts a cache into the order that makes equal caches equal bytes (FEATURES K3). */
export function formatChains(chains: Chains): FormattedCache {
  const stacks = sortedStacks(chains);
  const layerIndex = new Map(stacks.map(({ id }, i) => [id, i]));
  const layers = stacks.map(
    ({ descriptor, parent }): ConfigLayer => ({
      blob: descriptor.digest,
      parent: parent ? layerIndex.get(parent.id)! : NO_PARENT,
    }),
  );
  const items = [...chains.items].map(comparable).sort(compareItems);
  const recordIndex = new Map(items.map(({ item }, i) => [item, i]));
  const records = items.map(({ item, inputs }): ConfigRecord => {
    const best = item.best;
    return {
      digest: item.digest,
      inputs: inputs.map((ways) =>
        ways
          .map(({ source, selector }): ConfigInput => ({ selector, link: recordIndex.get(source)! }))
          .sort((a, b) => a.link - b.link || compare(a.selector, b.selector)),
      ),
      results: best ? [{ layer: layerIndex.get(best.stack.id)!, createdAt: best.createdAt }] : [],
      chains: [],
    };
  });
  return { config: { layers, records }, layers: stacks };
}

/** By blob, then by the parent's place in the order of first use. */
function sortedStacks(chains: Chains): LayerStack[] {
  const used = new Map<string, { stack: LayerStack; at: number }>();
  for (const { best } of chains.items)
    if (best)
      for (const stack of stackLayers(best.stack))
        if (!used.has(stack.id)) used.set(stack.id, { stack, at: used.size });
  const at = (stack: LayerStack | undefined): number => (stack ? used.get(stack.id)!.at : NO_PARENT);
  return [...used.values()]
    .map(({ stack }) => stack)
    .sort((a, b) => compare(a.descriptor.digest, b.descriptor.digest) || at(a.parent) - at(b.parent));
}

interface Comparable {
  readonly item: ChainItem;
  readonly inputs: readonly (readonly { readonly source: ChainItem; readonly selector: string }[])[];
}

function comparable(item: ChainItem): Comparable {
  const inputs = item.inputs.map((ways) =>
    [...ways]
      .flatMap(([source, selectors]) => [...selectors].map((selector) => ({ source, selector })))
      .sort((a, b) => compare(a.selector, b.selector) || compare(a.source.digest, b.source.digest)),
  );
  return { item, inputs };
}

/** By digest, number of inputs, then input by input: number of alternatives, selectors, digests they link to. */
function compareItems(a: Comparable, b: Comparable): number {
  const first = compare(a.item.digest, b.item.digest) || a.inputs.length - b.inputs.length;
  if (first !== 0) return first;
  for (const [i, left] of a.inputs.entries()) {
    const right = b.inputs[i]!;
    if (left.length !== right.length) return left.length - right.length;
    for (const [j, way] of left.entries()) {
      const other = right[j]!;
      const order = compare(way.selector, other.selector) || compare(way.source.digest, other.source.digest);
      if (order !== 0) return order;
    }
  }
  return 0;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Blobs of the layers of a config's result, bottom up. */
export function resultBlobs(layers: readonly ConfigLayer[], top: number): Digest[] {
  const blobs: Digest[] = [];
  for (let at = top; at !== NO_PARENT; at = layers[at]!.parent) blobs.push(layers[at]!.blob);
  return blobs.reverse();
}
