// What is built, and what must come out: graphs of steps made from a seed.
import { createHash } from 'node:crypto';
import { type Digest, digestOf } from '../../base/digest.ts';
import type { EdgeRef, Vertex } from '../../solver/types.ts';
import type { Random } from './random.ts';

/** How a step of this kind ends. `knot`: it solves a graph that waits for it. */
export type Ending = 'well' | 'map fails' | 'hash fails' | 'fails' | 'canceled' | 'knot';

/** What a step does; it follows from its kind, and so does its cache map. */
export interface Kind {
  readonly name: string;
  readonly outputs: number;
  readonly inputs: readonly InputUse[];
  /** Cache maps of a step without inputs. */
  readonly maps: number;
  /** Its key is of one session only. */
  readonly passing: boolean;
  readonly ending: Ending;
  readonly mapTicks: number;
  readonly execTicks: number;
  /** What it still takes to end once it is told to. */
  readonly deafTicks: number;
  /** Another step that it solves while it runs, whose content becomes its own. */
  readonly found?: number;
}

export interface InputUse {
  /** '' is all of it. */
  readonly selector: '' | 'a' | 'b';
  readonly content: boolean;
  readonly preprocess: boolean;
}

interface Definition {
  readonly kind: Kind;
  readonly inputs: readonly { readonly at: number; readonly output: number }[];
  /** Names of equal steps differ by spelling. */
  readonly spelled: boolean;
  /** Versions have cache maps of their own from the first map on, or contents of their own as well. */
  readonly versioned: 'not' | 'first map' | 'maps' | 'content';
}

/** A way to ask for a graph. */
export interface Variant {
  readonly spelling: number;
  readonly version: number;
  /** Definitions that ignore the cache. */
  readonly ignoring: ReadonlySet<number>;
}

/** A step of one variant. */
export interface Node {
  readonly at: number;
  readonly name: string;
  readonly kind: Kind;
  readonly variant: Variant;
  readonly seeds: readonly string[];
  readonly inputs: readonly { readonly node: Node; readonly output: number }[];
  readonly ignoreCache: boolean;
  /** Equal for steps that must not run at the same time: by what they are made from. */
  readonly identity: string;
  /** The same, with contents instead of what only matters by its content. */
  readonly likeness: string;
  /** Equal for steps that may stand for each other: by what they make. */
  readonly outcome: string;
  /** What each output holds, part by part. */
  readonly contents: readonly Content[];
}

export interface Content {
  readonly a: string;
  readonly b: string;
}

export function textOf({ a, b }: Content): string {
  return `${a}|${b}`;
}

export function partOf(content: Content, selector: InputUse['selector']): string {
  return selector === '' ? textOf(content) : content[selector];
}

/** A family of graphs: all variants of all their steps. */
export class Model {
  readonly #definitions: readonly Definition[];
  readonly #nodes = new Map<string, Node>();
  readonly #vertexes = new Map<Node, Vertex<Node>>();
  readonly size: number;

  constructor(random: Random) {
    this.#definitions = definitionsOf(random);
    this.size = this.#definitions.length;
  }

  node(at: number, variant: Variant): Node {
    const id = `${at} ${variant.spelling} ${variant.version} ${[...variant.ignoring].join()}`;
    const known = this.#nodes.get(id);
    if (known) return known;
    const made = this.#make(at, variant);
    this.#nodes.set(id, made);
    return made;
  }

  /** A node and all it is made from. */
  graph(root: Node): ReadonlySet<Node> {
    const seen = new Set([root]);
    for (const node of seen) for (const input of node.inputs) seen.add(input.node);
    return seen;
  }

  /** A node and all it needs, also what steps find out while they run. */
  reach(root: Node): ReadonlySet<Node> {
    const seen = new Set([root]);
    for (const node of seen) {
      for (const input of node.inputs) seen.add(input.node);
      const found = this.found(node);
      if (found) seen.add(found);
    }
    return seen;
  }

  /** What a step solves while it runs. */
  found(node: Node): Node | undefined {
    if (node.kind.ending === 'knot') return node;
    if (node.kind.found === undefined) return undefined;
    // What it finds follows from its identity, which knows neither version nor cache.
    return this.node(node.kind.found, { ...node.variant, version: 0, ignoring: new Set() });
  }

  vertex(node: Node): Vertex<Node> {
    const known = this.#vertexes.get(node);
    if (known) return known;
    const inputs: EdgeRef<Node>[] = node.inputs.map((input) => ({
      vertex: this.vertex(input.node),
      index: input.output,
    }));
    const vertex: Vertex<Node> = {
      digest: this.#digest(node),
      name: node.name,
      inputs,
      options: { ignoreCache: node.ignoreCache, description: {} },
      spec: node,
    };
    this.#vertexes.set(node, vertex);
    return vertex;
  }

  #digest(node: Node): Digest {
    const inputs = node.inputs.map((input) => [this.vertex(input.node).digest, input.output]);
    return digestOf(JSON.stringify([node.name, node.seeds, inputs]));
  }

  #make(at: number, variant: Variant): Node {
    const { kind, inputs: from, spelled, versioned } = this.#definitions[at] as Definition;
    const inputs = from.map((input) => ({ node: this.node(input.at, variant), output: input.output }));
    const version = versioned === 'not' ? 0 : variant.version;
    const changed = versioned === 'content' ? version : 0;
    const seeds = Array.from({ length: kind.maps }, (_, i) => {
      const seed = `${kind.name}.${i}`;
      if (changed > 0) return `${seed} changed ${changed}`;
      return version > 0 && (i === 0 || versioned === 'maps') ? `${seed} ${version}` : seed;
    });
    const used = inputs.map(({ node, output }, i) =>
      partOf(node.contents[output] as Content, kind.inputs[i]?.selector ?? ''),
    );
    const contents = Array.from({ length: kind.outputs }, (_, output) =>
      kind.found === undefined
        ? { a: short([kind.name, output, 'a', used, changed]), b: short([kind.name, output, 'b', used]) }
        : (this.node(kind.found, { ...variant, version: 0, ignoring: new Set() }).contents[0] as Content),
    );
    const likeness = inputs.map(({ node, output }, i) =>
      kind.inputs[i]?.content ? used[i] : [node.likeness, output],
    );
    return {
      at,
      name: `${at}${spelled ? `-${variant.spelling}` : ''}`,
      kind,
      variant,
      seeds,
      inputs,
      ignoreCache: variant.ignoring.has(at),
      identity: hash([seeds[0], inputs.map(({ node, output }) => [node.identity, output])]),
      likeness: hash([seeds[0], likeness]),
      outcome: `${kind.name} ${contents.map(textOf).join()}`,
      contents,
    };
  }
}

function hash(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64');
}

/** One of few, so that different ways lead to the same content. */
function short(value: unknown): string {
  return `c${createHash('sha256').update(JSON.stringify(value)).digest().readUInt8(0) % 6}`;
}

function definitionsOf(random: Random): Definition[] {
  const kinds = Array.from({ length: 3 + random(6) }, (_, i) => kindOf(random, `k${i}`));
  const sources = kinds.filter((kind) => kind.inputs.length === 0);
  if (sources.length === 0) sources.push(kindOf(random, 'source', 0));
  const source = (): Kind => sources[random(sources.length)] as Kind;
  const made: Definition[] = [];
  for (let at = 0, count = 3 + random(13); at < count; at++) {
    let kind = at < 2 ? source() : (kinds[random(kinds.length)] as Kind);
    // A step that finds a graph is of a kind of its own, which no step of that graph has.
    if (at > 3 && random(12) === 0)
      kind = { ...kind, name: `finder${at}`, found: random(at), ending: 'well' };
    made.push({
      kind,
      inputs: kind.inputs.map(() => inputFrom(random, made)),
      spelled: random(2) === 0,
      versioned: (['not', 'first map', 'maps', 'content'] as const)[random(4)] ?? 'not',
    });
  }
  return made.map((definition) =>
    definition.kind.inputs.length === 0 ? definition : { ...definition, versioned: 'not' },
  );
}

function inputFrom(random: Random, made: readonly Definition[]): { at: number; output: number } {
  const at = Math.max(0, made.length - 1 - random(Math.min(made.length, 5)));
  return { at, output: random(made[at]?.kind.outputs ?? 1) };
}

function kindOf(random: Random, name: string, arity = random(4)): Kind {
  const endings: Ending[] = ['map fails', 'hash fails', 'fails', 'canceled', 'knot'];
  return {
    name,
    outputs: random(3) === 0 ? 2 : 1,
    inputs: Array.from({ length: arity }, () => ({
      selector: (['', '', 'a', 'b'] as const)[random(4)] ?? '',
      content: random(2) === 0,
      preprocess: random(4) === 0,
    })),
    maps: arity === 0 ? 1 + random(3) : 1,
    passing: arity === 0 && random(8) === 0,
    ending: random(24) === 0 ? (endings[random(endings.length)] ?? 'well') : 'well',
    mapTicks: random(3),
    execTicks: random(10) === 0 ? 40 : random(6),
    deafTicks: random(4) === 0 ? random(5) : 0,
  };
}
