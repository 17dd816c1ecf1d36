import { createHash } from 'node:crypto';
import type { BlobProvider } from '../cache/ref.ts';
import type { Descriptor } from '../oci/descriptor.ts';

/** A layer with all below it. Equal stacks of one `Chains` are the same object. */
export interface LayerStack {
  readonly descriptor: Descriptor;
  readonly provider?: BlobProvider;
  readonly parent: LayerStack | undefined;
  /** Names the stack. */
  readonly id: string;
}

export interface ChainResult {
  readonly stack: LayerStack;
  /** Unix milliseconds. */
  readonly createdAt: number;
}

export interface ChainInput {
  readonly item: ChainItem;
  readonly selector: string;
}

/** A cache key as caches outside a daemon have it: a step by its digest, and what its inputs may be. */
export class ChainItem {
  readonly digest: string;
  /** By input: the items that may stand there, each with its selectors. */
  readonly inputs: Map<ChainItem, Set<string>>[] = [];
  /** Items that this one is an input of, by input, their digest and selector. */
  readonly outputs = new Map<string, Set<ChainItem>>();
  readonly results: ChainResult[] = [];

  constructor(digest: string) {
    this.digest = digest;
  }

  /** The newest result; of equal age the one added first. */
  get best(): ChainResult | undefined {
    return this.results.reduce<ChainResult | undefined>(
      (best, next) => (best && best.createdAt >= next.createdAt ? best : next),
      undefined,
    );
  }

  hasInput(input: number, { item, selector }: ChainInput): boolean {
    return this.inputs[input]?.get(item)?.has(selector) ?? false;
  }

  addInput(input: number, { item, selector }: ChainInput): void {
    while (this.inputs.length <= input) this.inputs.push(new Map());
    const ways = this.inputs[input]!;
    const selectors = ways.get(item) ?? new Set();
    ways.set(item, selectors.add(selector));
    const id = outputId(input, this.digest, selector);
    const targets = item.outputs.get(id) ?? new Set();
    item.outputs.set(id, targets.add(this));
  }
}

export function outputId(input: number, digest: string, selector: string): string {
  return `${input}\0${digest}\0${selector}`;
}

/**
 * A cache while it is read or written: items that are equal, that is of one digest and reached from a common item
 * for every input, become one. There are no loops.
 */
export class Chains {
  readonly items = new Set<ChainItem>();
  readonly #roots = new Map<string, ChainItem>();
  readonly #stacks = new Map<string, LayerStack>();

  /** The stack of `descriptor` on `parent`. */
  stack(
    descriptor: Descriptor,
    parent: LayerStack | undefined,
    provider: BlobProvider | undefined,
  ): LayerStack {
    const id = createHash('sha256')
      .update(`${descriptor.digest} ${parent?.id ?? ''}`)
      .digest('hex');
    let stack = this.#stacks.get(id);
    if (!stack) {
      stack = { descriptor, parent, id, ...(provider ? { provider } : {}) };
      this.#stacks.set(id, stack);
    }
    return stack;
  }

  /** The item of this digest and these inputs, new or known. Every input has at least one item. */
  add(
    digest: string,
    inputs: readonly (readonly ChainInput[])[],
    results: readonly ChainResult[] = [],
  ): ChainItem {
    const item = this.#find(digest, inputs) ?? this.#create(digest, inputs.length === 0);
    item.results.push(...results);
    const fresh = inputs.map((ways, input) => ways.filter((way) => !item.hasInput(input, way)));
    if (fresh.some((ways) => ways.length > 0)) {
      const below = item.outputs.size > 0 ? descendants(item) : new Set([item]);
      for (const [input, ways] of fresh.entries())
        for (const way of ways) if (!below.has(way.item)) item.addInput(input, way);
    }
    return item;
  }

  #create(digest: string, isRoot: boolean): ChainItem {
    const item = new ChainItem(digest);
    this.items.add(item);
    if (isRoot) this.#roots.set(digest, item);
    return item;
  }

  #find(digest: string, inputs: readonly (readonly ChainInput[])[]): ChainItem | undefined {
    if (inputs.length === 0) return this.#roots.get(digest);
    let common: Set<ChainItem> | undefined;
    for (const [input, ways] of inputs.entries()) {
      const here = new Set<ChainItem>();
      for (const { item, selector } of ways)
        for (const known of item.outputs.get(outputId(input, digest, selector)) ?? []) here.add(known);
      common = common ? common.intersection(here) : here;
      if (common.size === 0) return undefined;
    }
    const [first, ...others] = common ?? [];
    if (first) for (const other of others) this.#merge(first, other);
    return first;
  }

  /** Puts `into` in the place of `item`. Two items of which one is made from the other stay apart. */
  #merge(into: ChainItem, item: ChainItem): void {
    if (descendants(item).has(into) || descendants(into).has(item)) return;
    for (const [input, ways] of item.inputs.entries())
      for (const [source, selectors] of ways)
        for (const selector of selectors) {
          source.outputs.get(outputId(input, item.digest, selector))?.delete(item);
          into.addInput(input, { item: source, selector });
        }
    for (const targets of item.outputs.values())
      for (const target of targets)
        for (const [input, ways] of target.inputs.entries()) {
          const selectors = ways.get(item) ?? [];
          ways.delete(item);
          for (const selector of selectors) target.addInput(input, { item: into, selector });
        }
    into.results.push(...item.results);
    this.items.delete(item);
  }
}

/** The item and all that is made from it. */
function descendants(item: ChainItem): Set<ChainItem> {
  const seen = new Set([item]);
  for (const one of seen) for (const targets of one.outputs.values()) for (const t of targets) seen.add(t);
  return seen;
}

/** The item and all that it is made from. */
export function ancestors(item: ChainItem): Set<ChainItem> {
  const seen = new Set([item]);
  for (const one of seen) for (const ways of one.inputs) for (const source of ways.keys()) seen.add(source);
  return seen;
}

/** From the lowest layer to the top one. */
export function stackLayers(top: LayerStack): LayerStack[] {
  const layers: LayerStack[] = [];
  for (let at: LayerStack | undefined = top; at; at = at.parent) layers.push(at);
  return layers.reverse();
}
