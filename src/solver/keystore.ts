import { digestOf } from '../base/digest.ts';

/**
 * A step seen from one of its inputs: output `output` of the step with cache-map digest `digest` takes the
 * key in question as its input number `input`. Two links are the same when all four fields are equal.
 */
export interface KeyLink {
  readonly input: number;
  /** Output of the step, or -1: `CONTENT_OUTPUT`, only in root keys made of content digests; or `COMBINED_OUTPUT`. */
  readonly output: number;
  /** Digest of the step's cache map; with `COMBINED_OUTPUT` what `linkDigest` gives for digest and output. */
  readonly digest: string;
  /** '' when the whole input matters. */
  readonly selector: string;
}

/** A kept result of a key. */
export interface KeyRecord {
  readonly key: string;
  /** Names a result in the result store. The same result may stand on several keys. */
  readonly resultId: string;
  /** Unix milliseconds; the newest record is tried first. */
  readonly createdAt: number;
}

/** One way that leads to a key. */
export interface KeyBacklink {
  readonly from: string;
  readonly link: KeyLink;
}

/** The readable side of a cache graph; all that an imported cache has. */
export interface KeyGraph {
  /** The keys that `link` leads to from `from`, oldest link first; empty when there are none. */
  query(from: string, link: KeyLink): readonly string[];
  /** Records of a key, newest `createdAt` first, then newest added first; empty when there are none. */
  records(key: string): readonly KeyRecord[];
  /** Every way that leads to `key`, in order of input number. A key with none is a root. For export. */
  backlinks(key: string): readonly KeyBacklink[];
}

/**
 * The cache graph (FEATURES E3, E4): keys are nodes, links lead from the key of an input to the key of a step,
 * records are results that stand on keys. A key is any non-empty text (`rootKey`, or random for steps with
 * inputs) and exists as long as a link or a record names it; there is no call to make one.
 *
 * Everything is synchronous, so that each decision of the solver is atomic: what one call wrote, the next reads.
 */
export interface KeyStore extends KeyGraph {
  /** Adds a link. Adding it again does nothing. */
  link(from: string, link: KeyLink, to: string): void;
  /** Adds a record. A record of the same key and result replaces the older one. */
  addRecord(record: KeyRecord): void;
  /**
   * Forgets a result: its records go from every key. A key that is then without records and without links
   * going out goes too, with the links that lead to it; then the same for the keys those came from, and so
   * on (FEATURES E28). A result that has no record is no error.
   */
  releaseResult(resultId: string): void;
  /** Every result that has a record, once each, in no set order: to find those whose result is gone. */
  resultIds(): Iterable<string>;
}

export const CONTENT_OUTPUT = -1;

/**
 * Output of links that came with an imported cache and that no look-up has asked for yet: their digest stands for
 * digest and output together, and nothing can be taken out of it. They answer no query; an export takes them on.
 */
export const COMBINED_OUTPUT = -2;

const PASSING = 'random:';

/** Keys that need not outlive the process, because nothing can ask for them again. */
export function isPassing(key: string): boolean {
  return key.startsWith(PASSING);
}

/** Key of output `output` of a step without inputs (FEATURES E3). */
export function rootKey(digest: string, output: number): string {
  const id = digestOf(`${digest}@${output}`);
  return isPassing(digest) ? `${PASSING}${id.slice('sha256:'.length)}` : id;
}

/** Digest and output of a link as one, as caches outside this daemon name a step. */
export function linkDigest(link: Pick<KeyLink, 'digest' | 'output'>): string {
  return link.output === COMBINED_OUTPUT ? link.digest : rootKey(link.digest, link.output);
}

function linkId(from: string, link: KeyLink): string {
  return `${from}\0${link.input}\0${link.output}\0${link.digest}\0${link.selector}`;
}

interface Node {
  records: KeyRecord[];
  /** How many links go out. */
  out: number;
  readonly into: Map<string, KeyBacklink>;
}

/** A key store that lasts as long as the process. */
export class MemoryKeyStore implements KeyStore {
  readonly #links = new Map<string, Set<string>>();
  readonly #nodes = new Map<string, Node>();
  readonly #results = new Map<string, Set<string>>();

  query(from: string, link: KeyLink): readonly string[] {
    return [...(this.#links.get(linkId(from, link)) ?? [])];
  }

  records(key: string): readonly KeyRecord[] {
    return [...(this.#nodes.get(key)?.records ?? [])];
  }

  backlinks(key: string): readonly KeyBacklink[] {
    const ways = [...(this.#nodes.get(key)?.into.values() ?? [])];
    return ways.sort((a, b) => a.link.input - b.link.input);
  }

  link(from: string, link: KeyLink, to: string): void {
    const id = linkId(from, link);
    const targets = this.#links.get(id) ?? new Set();
    this.#links.set(id, targets);
    if (targets.has(to)) return;
    targets.add(to);
    this.#node(from).out++;
    this.#node(to).into.set(id, { from, link });
  }

  addRecord(record: KeyRecord): void {
    const node = this.#node(record.key);
    const others = node.records.filter((r) => r.resultId !== record.resultId);
    node.records = [record, ...others].sort((a, b) => b.createdAt - a.createdAt);
    const keys = this.#results.get(record.resultId) ?? new Set();
    keys.add(record.key);
    this.#results.set(record.resultId, keys);
  }

  releaseResult(resultId: string): void {
    const keys = [...(this.#results.get(resultId) ?? [])];
    this.#results.delete(resultId);
    for (const key of keys) {
      const node = this.#node(key);
      node.records = node.records.filter((r) => r.resultId !== resultId);
    }
    for (let key = keys.pop(); key !== undefined; key = keys.pop()) keys.push(...this.#dropIfBare(key));
  }

  resultIds(): Iterable<string> {
    return [...this.#results.keys()];
  }

  /** Removes a key without records and links going out; gives the keys that led to it. */
  #dropIfBare(key: string): string[] {
    const node = this.#nodes.get(key);
    if (!node || node.records.length > 0 || node.out > 0) return [];
    this.#nodes.delete(key);
    for (const [id, { from }] of node.into) {
      const targets = this.#links.get(id);
      targets?.delete(key);
      if (targets?.size === 0) this.#links.delete(id);
      this.#node(from).out--;
    }
    return [...node.into.values()].map(({ from }) => from);
  }

  #node(key: string): Node {
    let node = this.#nodes.get(key);
    if (!node) {
      node = { records: [], out: 0, into: new Map() };
      this.#nodes.set(key, node);
    }
    return node;
  }
}
