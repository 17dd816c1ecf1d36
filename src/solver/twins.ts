import { waitsFor } from './graph.ts';
import type { SharedVertex } from './shared-vertex.ts';
import type { Result } from './types.ts';

interface Running<Spec, R extends Result> {
  readonly vertex: SharedVertex<Spec, R>;
  /** Keys of each input under which it may be taken for another. */
  readonly keys: readonly ReadonlySet<string>[];
}

/**
 * Vertexes that come to the same, of which one works for all (FEATURES E16). Each vertex decides as a whole, not
 * output by output: two would run for each other and wait for each other.
 */
export class Twins<Spec, R extends Result> {
  /** Those that stand for themselves, oldest first. */
  readonly #identities = new Map<string, SharedVertex<Spec, R>[]>();
  /** Those that run or have run, by the digest of their step. */
  readonly #running = new Map<string, Running<Spec, R>[]>();
  readonly #places = new Map<SharedVertex<Spec, R>, Set<string>>();

  /**
   * The vertex that stands for `identity`: one that is there, or else `vertex`. One that ignores the cache joins
   * none that does not; all others prefer one that does.
   */
  canonical(identity: string, vertex: SharedVertex<Spec, R>): SharedVertex<Spec, R> {
    const known = this.#identities.get(identity) ?? [];
    if (known.includes(vertex)) return vertex;
    const found = preferred(vertex, known);
    if (found) return found;
    this.#identities.set(identity, [...known, vertex]);
    this.#placed(vertex, identity);
    return vertex;
  }

  /**
   * A vertex of the same step that runs, and has a key in common with `vertex` for every input; else `vertex`, which
   * is one of those from now on. Those that wait for `vertex` do not count: neither would ever end.
   */
  alike(
    digest: string,
    keys: readonly ReadonlySet<string>[],
    vertex: SharedVertex<Spec, R>,
  ): SharedVertex<Spec, R> {
    const known = this.#running.get(digest) ?? [];
    const alike = known.filter(
      (other) =>
        other.vertex !== vertex && other.keys.every((set, i) => !set.isDisjointFrom(keys[i] as typeof set)),
    );
    const found = preferred(
      vertex,
      alike.map((other) => other.vertex).filter((other) => !waitsFor(other, vertex)),
    );
    if (found) return found;
    this.#running.set(digest, [...known.filter((other) => other.vertex !== vertex), { vertex, keys }]);
    this.#placed(vertex, digest);
    return vertex;
  }

  forget(vertex: SharedVertex<Spec, R>): void {
    for (const place of this.#places.get(vertex) ?? []) {
      const standing = this.#identities.get(place)?.filter((other) => other !== vertex);
      if (standing) setOrDelete(this.#identities, place, standing);
      const running = this.#running.get(place)?.filter((other) => other.vertex !== vertex);
      if (running) setOrDelete(this.#running, place, running);
    }
    this.#places.delete(vertex);
  }

  #placed(vertex: SharedVertex<Spec, R>, place: string): void {
    const places = this.#places.get(vertex);
    if (places) places.add(place);
    else this.#places.set(vertex, new Set([place]));
  }
}

function preferred<Spec, R extends Result>(
  vertex: SharedVertex<Spec, R>,
  others: readonly SharedVertex<Spec, R>[],
): SharedVertex<Spec, R> | undefined {
  return others.find((other) => other.ignoreCache) ?? (vertex.ignoreCache ? undefined : others[0]);
}

function setOrDelete<V>(map: Map<string, V[]>, key: string, values: V[]): void {
  if (values.length > 0) map.set(key, values);
  else map.delete(key);
}
