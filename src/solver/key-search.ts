import { CONTENT_OUTPUT, type KeyLink, rootKey } from './keystore.ts';
import type { SharedVertex } from './shared-vertex.ts';
import type { Result } from './types.ts';

type Keys = readonly string[];

/**
 * Finds the keys of an edge with inputs, asking its inputs for no more than is needed (FEATURES E15). A key
 * counts when every input leads to it.
 */
export class KeySearch<Spec, R extends Result> {
  readonly #shared: SharedVertex<Spec, R>;
  readonly #index: number;

  constructor(shared: SharedVertex<Spec, R>, index: number) {
    this.#shared = shared;
    this.#index = index;
  }

  /** Keys that follow from the inputs' definitions. */
  async fast(): Promise<Keys> {
    return intersect(await this.#fastCandidates());
  }

  /**
   * Looks deeper until `enough` is content with the keys found; gives what was found in the end, nothing when
   * one input cannot match.
   */
  async deep(enough: (keys: Keys) => boolean): Promise<Keys> {
    const candidates = (await this.#fastCandidates()).map((keys) => new Set(keys));
    const found = (): Keys => intersect(candidates.map((set) => [...set]));
    if (enough(found())) return found();
    // First only the inputs that match nothing so far. One that cannot match settles it: then all have to run.
    const missing = candidates.flatMap((keys, i) => (keys.size === 0 ? [i] : []));
    if (!(await everyTrue(missing.map((i) => this.#deepen(i, candidates[i]))))) return [];
    if (enough(found())) return found();
    await Promise.all(candidates.map((set, i) => this.#addSlow(i, set)));
    if (enough(found())) return found();
    for (const [i, set] of candidates.entries()) {
      if (missing.includes(i)) continue;
      await this.#addContent(i, set);
      if (enough(found())) break;
    }
    return found();
  }

  /** The link by history of input `input` to this edge. */
  async link(input: number): Promise<KeyLink> {
    const { map } = await this.#shared.cacheMap(0);
    const selector = map.deps[input]?.selector ?? '';
    return { input, output: this.#index, digest: map.digest, selector };
  }

  async #fastCandidates(): Promise<string[][]> {
    await this.#shared.cacheMap(0);
    const { inputs } = this.#shared;
    return Promise.all(inputs.map(async (input, i) => this.#query(i, await input.fastKeys())));
  }

  async #deepen(input: number, candidates: Set<string> | undefined): Promise<boolean> {
    if (!candidates) return false;
    await this.#addSlow(input, candidates);
    if (candidates.size === 0) await this.#addContent(input, candidates);
    return candidates.size > 0;
  }

  async #addSlow(input: number, candidates: Set<string>): Promise<void> {
    const keys = (await this.#shared.inputs[input]?.slowKeys()) ?? [];
    for (const key of await this.#query(input, keys)) candidates.add(key);
  }

  async #addContent(input: number, candidates: Set<string>): Promise<void> {
    const content = await this.#shared.content(input);
    const solved = await this.#inputResult(input, content !== undefined);
    if (content === undefined || !solved) return;
    const link = await this.link(input);
    const { caches } = this.#shared;
    for (const key of await this.#query(input, solved.matches)) candidates.add(key);
    await caches.ready();
    for (const key of caches.query([rootKey(content, CONTENT_OUTPUT)], { ...link, selector: '' })) {
      candidates.add(key);
      // Next time the cheap question finds it.
      for (const known of solved.keys) caches.link(known, link, key);
    }
  }

  async #inputResult(input: number, needed: boolean) {
    return needed ? this.#shared.inputs[input]?.result() : undefined;
  }

  async #query(input: number, keys: Keys): Promise<string[]> {
    if (keys.length === 0) return [];
    const link = await this.link(input);
    await this.#shared.caches.ready();
    return this.#shared.caches.query(keys, link);
  }
}

export function intersect(sets: readonly Keys[]): string[] {
  const [first, ...rest] = sets;
  if (!first) return [];
  const others = rest.map((keys) => new Set(keys));
  return [...new Set(first)].filter((key) => others.every((set) => set.has(key)));
}

/** False with the first false one, while the others go on; true when all are. */
function everyTrue(answers: readonly Promise<boolean>[]): Promise<boolean> {
  return new Promise((resolve, reject) => {
    for (const answer of answers) answer.then((yes) => yes || resolve(false), reject);
    Promise.all(answers).then(() => resolve(true), reject);
  });
}
