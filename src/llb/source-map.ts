import type { Digest } from '../base/digest.ts';
import type { SourceLocation, SourceMap } from './node.ts';
import type { Definition, Locations, Source } from './ops.ts';
import type { State } from './state.ts';

/** Gathers the files that steps come from, each once, and where in them each step stands. */
export class SourceCollector {
  readonly #maps: SourceMap[] = [];
  readonly #index = new Map<SourceMap, number>();
  readonly #locations = new Map<Digest, Locations>();

  add(digest: Digest, locations: readonly SourceLocation[]): void {
    const known = this.#locations.get(digest) ?? { locations: [] };
    this.#locations.set(digest, known);
    for (const { map, ranges } of locations) {
      known.locations.push({
        sourceIndex: this.#indexOf(map),
        ranges: ranges.map((range) => ({ ...range })),
      });
    }
  }

  message(marshal: (state: State) => Definition): Source {
    const infos = this.#maps.map(({ filename, language, data, definition }) => ({
      filename,
      data,
      language,
      definition: definition && 'def' in definition ? definition : definition && marshal(definition),
    }));
    return { locations: Object.fromEntries(this.#locations), infos };
  }

  #indexOf(map: SourceMap): number {
    let index = this.#index.get(map);
    if (index === undefined) {
      index = this.#maps.findIndex((other) => sameFile(map, other));
      if (index < 0) index = this.#maps.push(map) - 1;
      this.#index.set(map, index);
    }
    return index;
  }
}

function sameFile(a: SourceMap, b: SourceMap): boolean {
  return a.filename === b.filename && a.language === b.language && Buffer.compare(a.data, b.data) === 0;
}
