import { setImmediate as nextTurn } from 'node:timers/promises';
import { walkTree } from '../../match/walk.ts';
import { inodeKey, isRegularMode, lstatOrNone } from '../../sys/stat.ts';

/** Entries of a tree that is worth cutting. */
const MIN_ENTRIES = 1000;
/** Places that are remembered at most; beyond, every other one is forgotten. */
const MAX_PLACES = 1024;
/** Files of several names that are remembered; a tree with more stays whole. */
const MAX_LINKED = 10_000;
const YIELD_EVERY = 256;

interface Place {
  readonly path: string;
  readonly index: number;
}

/**
 * Path of a regular file in the middle of a directory's tree, in wire order, such that no file has names on both
 * sides; undefined when there is none between the first and the last quarter, or the tree is small.
 */
export async function placeToCut(root: string, signal: AbortSignal): Promise<string | undefined> {
  const places = new Places();
  const linked = new Map<string, { first: number; last: number }>();
  let index = 0;
  for (const { path, fullPath, kind } of walkTree(root)) {
    // A socket goes as a file, too.
    if (kind === 'file' || kind === 'socket') {
      const info = lstatOrNone(fullPath);
      if (info && isRegularMode(info.mode) && info.nlink === 1) places.add({ path, index });
      else if (info) {
        const key = inodeKey(info);
        const names = linked.get(key);
        if (names) names.last = index;
        else if (linked.size === MAX_LINKED) return undefined;
        else linked.set(key, { first: index, last: index });
      }
    }
    if (++index % YIELD_EVERY !== 0) continue;
    await nextTurn();
    signal.throwIfAborted();
  }
  if (index < MIN_ENTRIES) return undefined;
  return places.nearest(index / 2, index / 4, [...linked.values()])?.path;
}

/** Of all that are added, evenly, a bounded number. */
class Places {
  #kept: Place[] = [];
  #every = 1;
  #count = 0;

  add(place: Place): void {
    if (this.#count++ % this.#every !== 0) return;
    this.#kept.push(place);
    if (this.#kept.length < MAX_PLACES) return;
    this.#kept = this.#kept.filter((_, i) => i % 2 === 0);
    this.#every *= 2;
  }

  /** The one closest to `middle`, less than `reach` away and not within a span. */
  nearest(
    middle: number,
    reach: number,
    spans: readonly { first: number; last: number }[],
  ): Place | undefined {
    const away = (place: Place): number => Math.abs(place.index - middle);
    return this.#kept
      .filter((place) => away(place) < reach)
      .sort((a, b) => away(a) - away(b))
      .find(({ index }) => !spans.some(({ first, last }) => first < index && index < last));
  }
}
