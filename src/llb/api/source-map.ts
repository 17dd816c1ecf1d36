import { invalidArgument } from '../../base/errors.ts';
import type { SourceMap as InnerSourceMap } from '../node.ts';
import type { Definition } from './definition.ts';
import { LAZY, Lazy } from './lazy.ts';
import type { State } from './state.ts';

/** A stretch of a file. Lines count from 1, characters of a line from 0. */
export interface SourceRange {
  readonly start: { readonly line: number; readonly character: number };
  readonly end: { readonly line: number; readonly character: number };
}

/** Where a step stands in a file; made by `SourceMap.at`. */
export interface SourceLocation {
  readonly map: SourceMap;
  readonly ranges: readonly SourceRange[];
}

/** The file that steps come from. */
export interface SourceMapOptions {
  /** As it is shown with errors. */
  readonly filename: string;
  readonly data: Uint8Array | string;
  /** A language of GitHub's list, to colour it: `Dockerfile`, `TypeScript`. */
  readonly language?: string;
  /** What the file was read from. */
  readonly from?: State | Definition;
}

/**
 * A file that steps come from, so that a failing step shows its lines. Yields an entry of Definition
 * `Source.infos` once a step of the graph names it; equal files give one entry.
 */
export class SourceMap {
  readonly #map: Lazy<InnerSourceMap>;

  /** @internal */
  constructor({ filename, data, language = '', from }: SourceMapOptions) {
    const map = {
      filename,
      language,
      data: typeof data === 'string' ? new TextEncoder().encode(data) : data,
    };
    if (from === undefined) this.#map = Lazy.of(map);
    else if ('marshal' in from) this.#map = from[LAZY].map((definition) => ({ ...map, definition }));
    else this.#map = Lazy.of({ ...map, definition: from.message });
  }

  /** @internal */
  get [LAZY](): Lazy<InnerSourceMap> {
    return this.#map;
  }

  /** Lines `first` to `last` for `locations` of a step: its entry of Definition `Source.locations`. */
  at(first: number, last?: number): SourceLocation;
  at(...ranges: readonly [SourceRange, ...SourceRange[]]): SourceLocation;
  at(first: number | SourceRange, ...more: readonly (number | SourceRange | undefined)[]): SourceLocation {
    if (typeof first === 'object') return { map: this, ranges: [first, ...(more as SourceRange[])] };
    const last = (more[0] as number | undefined) ?? first;
    if (!Number.isInteger(first) || !Number.isInteger(last) || first < 1 || last < first)
      throw invalidArgument(`no lines: ${first} to ${last}`);
    return {
      map: this,
      ranges: [{ start: { line: first, character: 0 }, end: { line: last, character: 0 } }],
    };
  }
}

/** A file that steps come from: Definition `Source.infos`. Make one for each file. */
export function sourceMap(options: SourceMapOptions): SourceMap {
  return new SourceMap(options);
}
