import type { Digest } from '../base/digest.ts';
import {
  type ContentChange,
  type Differences,
  differences,
  goneCause,
  type Pair,
  parentCause,
  placeOf,
} from './differences.ts';
import type { EndedStep, KeptBuild, KeptStep } from './kept.ts';
import type { FileDifferences } from './manifest-compare.ts';
import { matchSteps, type StepMatch } from './match.ts';
import { type BuildExplanation, type Cause, cause, type StepExplanation } from './types.ts';

/** Files of one input that are told by name. */
const MAX_FILES = 10;
/** Steps that are told of, and causes of one of them. */
const MAX_STEPS = 500;
const MAX_CAUSES = 50;
/** Builds less alike than this are of something else. */
const MIN_LIKENESS = 0.25;

/** What has become of the files of a content key; undefined when one of the two is not kept. */
export type CompareFiles = (
  before: string,
  after: string,
  limit: number,
) => Promise<FileDifferences | undefined>;

export interface EndedBuild {
  readonly args: readonly string[];
  readonly steps: readonly EndedStep[];
}

interface Candidate {
  readonly build: KeptBuild;
  readonly match: StepMatch;
}

/** Compares a build that has ended with earlier ones (the newest first) and says why its steps ran. */
export async function explainBuild(
  build: EndedBuild,
  earlier: readonly KeptBuild[],
  compareFiles: CompareFiles,
): Promise<BuildExplanation> {
  const candidates = earlier
    .map((kept) => ({ build: kept, match: matchSteps(build.steps, kept.steps) }))
    .filter(({ match }) => match.likeness >= MIN_LIKENESS)
    .sort((a, b) => b.match.likeness - a.match.likeness);
  const run = new Comparison(build, candidates, compareFiles);
  for (const [i, step] of build.steps.entries()) if (step.ran) await run.explain(i);
  return run.result();
}

/** The build most like this one; the newest of several. */
export function nearestBuild(
  steps: readonly KeptStep[],
  earlier: readonly KeptBuild[],
): { build: KeptBuild; match: StepMatch } | undefined {
  const all = earlier.map((build) => ({ build, match: matchSteps(steps, build.steps) }));
  return all.reduce<Candidate | undefined>(
    (best, next) => (best && best.match.likeness >= next.match.likeness ? best : next),
    undefined,
  );
}

class Comparison {
  readonly #build: EndedBuild;
  readonly #candidates: readonly Candidate[];
  readonly #compareFiles: CompareFiles;
  readonly #told = new Map<number, StepExplanation>();
  readonly #index: ReadonlyMap<Digest, number>;
  #comparedWith = 0;

  constructor(build: EndedBuild, candidates: readonly Candidate[], compareFiles: CompareFiles) {
    this.#build = build;
    this.#candidates = candidates;
    this.#compareFiles = compareFiles;
    this.#index = new Map(build.steps.map(({ vertex }, i) => [vertex, i]));
  }

  async explain(at: number): Promise<void> {
    if (this.#told.has(at) || this.#told.size >= MAX_STEPS) return;
    const step = this.#build.steps[at] as EndedStep;
    if (step.passing) return this.#tell(at, [cause('uncacheable')], false);
    if (step.ignoreCache) return this.#tell(at, [cause('ignore-cache')], false);
    const best = this.#nearest(step, at);
    if (!best) return this.#tell(at, [cause('no-record')], false);
    this.#comparedWith = Math.max(this.#comparedWith, best.pair.earlier.at);
    await this.#explainPair(at, best.pair, best.found);
  }

  result(): BuildExplanation {
    const steps = [...this.#told].sort(([a], [b]) => a - b).map(([, told]) => told);
    return { steps, comparedWith: this.#comparedWith };
  }

  /** Of the earlier steps that it may be, one that was finished, then the one with the fewest differences. */
  #nearest(now: EndedStep, at: number): { pair: Pair; found: Differences } | undefined {
    let best: { pair: Pair; found: Differences; rank: number } | undefined;
    const alike = this.#candidates[0]?.match.likeness ?? 0;
    for (const { build: earlier, match } of this.#candidates) {
      const place = match.steps.get(at);
      const before = earlier.steps[place?.index ?? -1];
      // Of less alike builds, what stands in its place is not what it was.
      if (!before || (!place?.same && match.likeness < alike)) continue;
      const pair = { now, before, build: this.#build, earlier };
      const found = differences(pair);
      const count = found.causes.length + found.contents.length + found.parents.length;
      const rank = (before.end === 'done' ? 0 : 1000) + count;
      if (!best || rank < best.rank) best = { pair, found, rank };
    }
    return best;
  }

  async #explainPair(at: number, pair: Pair, found: Differences): Promise<void> {
    const { now, before, earlier } = pair;
    const files: Cause[] = [];
    for (const change of found.contents) files.push(...(await this.#files(change)));
    const parents = found.parents.map(({ now: input }) => inputCause(input));
    const causes = [...found.causes, ...files, ...parents];
    if (causes.length === 0 && now.ran) causes.push(goneCause(now, before));
    if (causes.length > 0) this.#tell(at, causes, !now.ran);
    // What was in the cache and is another one all the same leads on to the reason.
    const changed = [
      ...found.parents,
      ...found.contents.map(({ input }) => ({ now: input, before: this.#sameIn(earlier, input) })),
    ];
    for (const { now: input, before: was } of changed) {
      const index = this.#index.get(input.vertex);
      if (index === undefined || this.#told.has(index) || this.#told.size >= MAX_STEPS) continue;
      if (input.ran || !was) await this.#explainInput(index, input);
      else {
        const next = { now: input, before: was, build: this.#build, earlier };
        await this.#explainPair(index, next, differences(next));
      }
    }
  }

  async #explainInput(index: number, input: EndedStep): Promise<void> {
    if (input.ran) await this.explain(index);
  }

  #sameIn(earlier: KeptBuild, step: EndedStep): KeptStep | undefined {
    const at = this.#index.get(step.vertex);
    const found = this.#candidates.find(({ build }) => build === earlier)?.match.steps.get(at ?? -1);
    return earlier.steps[found?.index ?? -1];
  }

  async #files({ before, after, input }: ContentChange): Promise<Cause[]> {
    const place = placeOf(input);
    const isLocal = input.passing;
    const shown = (path: string): string => (isLocal ? path.replace(/^\/(?=.)/, '') : path);
    const base = { place, vertex: isLocal ? ('' as const) : input.vertex };
    const compared = await this.#compareFiles(before, after, MAX_FILES);
    if (!compared || compared.named.length === 0) return [cause('file', base)];
    const named = compared.named.map(({ path, change, old, new: to }) => {
      const isRename = change === 'renamed';
      const names = { old: isRename ? shown(old) : old, new: isRename ? shown(to) : to };
      return cause('file', { ...base, subject: shown(path), change, ...names });
    });
    if (compared.more === 0) return named;
    return [...named, cause('more-files', { ...base, subject: String(compared.more) })];
  }

  #tell(at: number, causes: readonly Cause[], cached: boolean): void {
    const { vertex, name } = this.#build.steps[at] as EndedStep;
    this.#told.set(at, { vertex, name, cached, causes: causes.slice(0, MAX_CAUSES) });
  }
}

/** A folder of the client of whose files nothing is known has changed for all one can say. */
function inputCause(input: EndedStep): Cause {
  return input.passing ? cause('file', { place: placeOf(input) }) : parentCause(input);
}
