import { type Digest, digestOf } from '../base/digest.ts';
import type { Logger } from '../base/log.ts';
import { BoundedMap } from '../base/bounded-map.ts';
import type { JobRunner } from '../pool/types.ts';
import type { ContentLook } from '../ops/content-key.ts';
import { explainBuild, nearestBuild } from './compare.ts';
import {
  type EndedStep,
  endedSteps,
  fingerprintText,
  isPassingTrace,
  type KeptBuild,
  type KeptStep,
  keptStep,
  type Trace,
} from './kept.ts';
import { keepSmallManifest, type ManifestJobs } from './manifest.ts';
import type { ExplainStore } from './store.ts';
import { type BuildExplanation, cause } from './types.ts';

/** Steps of a build that is remembered and explained; larger ones are not. */
const MAX_STEPS = 5000;
/** Builds, and lines of builds, of which something is held in memory. */
const MAX_HELD = 500;
const BUILD_ARG = 'build-arg:';

export interface ExplainerOptions {
  readonly store: ExplainStore;
  readonly jobs: JobRunner<ManifestJobs>;
  readonly log: Logger;
}

/** A look at a tree, with the file of its known digests. */
export interface IndexedLook extends ContentLook {
  readonly index: string;
  /** A tree of few files whose digests are known. */
  readonly small: boolean;
}

/** A build whose job is still open. */
export interface OpenJob {
  readonly ref: string;
  /** Options of the frontend. */
  readonly attrs: Readonly<Record<string, string>>;
  /** Names the client's folders, so that builds of others are not compared; '' when it gave no name. */
  readonly folders: string;
  readonly traces: readonly Trace[];
}

/**
 * Remembers what the steps of builds were made of, and says of those that ran what has changed since. A build in
 * which all is as it was costs one digest over the keys that its steps have anyway.
 */
export class Explainer {
  readonly #options: ExplainerOptions;
  /** Fingerprint of the newest build of a line. */
  readonly #newest = new BoundedMap<string, string>(MAX_HELD);
  readonly #results = new BoundedMap<string, BuildExplanation | Promise<BuildExplanation>>(MAX_HELD);
  /** Manifests being written, by the vertex that asked for the digest. */
  readonly #looks = new Map<Digest, Set<Promise<void>>>();
  #queue: Promise<unknown> = Promise.resolve();
  readonly #swept: Promise<void>;
  #onExplained: ((ref: string, explanation: BuildExplanation) => void) | undefined;

  constructor(options: ExplainerOptions) {
    this.#options = options;
    this.#swept = options.store
      .sweep()
      .catch((error) => options.log.warn('could not sweep manifests', { error }));
  }

  /** What is not as it should be in what is kept. */
  async *check(...args: Parameters<ExplainStore['check']>): ReturnType<ExplainStore['check']> {
    await this.#swept; // what a dead daemon left is no damage
    yield* this.#options.store.check(...args);
  }

  /** `told` gets every explanation of a build of which steps ran, as soon as it is known. */
  onExplained(told: (ref: string, explanation: BuildExplanation) => void): void {
    this.#onExplained = told;
  }

  /** Writes down what a tree holds that was hashed; true when `release` is called once that is done. */
  keep(look: IndexedLook, release: () => Promise<void>): boolean {
    const { store, jobs, log } = this.#options;
    const { digest, dir, selectors, index, small, vertex } = look;
    if (store.hasManifest(digest)) return false;
    store.expectManifest(digest);
    const write = async (): Promise<void> => {
      try {
        const input = { dir, selectors, index, file: store.manifest(digest) };
        // Of a small tree it takes less than starting a thread.
        const size =
          (small ? keepSmallManifest(input) : undefined) ?? (await jobs.run('keepManifest', input));
        if (size > 0) store.putManifest(digest, size);
      } catch (error) {
        store.dropManifest(digest);
        log.debug('could not keep what a step uses', { error });
      } finally {
        await release().catch((error) => log.warn('could not unmount a tree', { error }));
      }
    };
    const writing = write();
    const all = this.#looks.get(vertex) ?? new Set();
    this.#looks.set(vertex, all.add(writing));
    void writing.then(() => {
      all.delete(writing);
      if (all.size === 0 && this.#looks.get(vertex) === all) this.#looks.delete(vertex);
    });
    return true;
  }

  /** Resolves when no tree of a job is looked at any more: then its refs may go. */
  async settled(traces: readonly Trace[]): Promise<void> {
    if (this.#looks.size === 0) return;
    await Promise.all(traces.flatMap(({ vertex }) => [...(this.#looks.get(vertex.digest) ?? [])]));
  }

  /** Takes note of a build. What takes time goes on afterwards. */
  ended(job: OpenJob): void {
    const { ref, traces } = job;
    if (traces.length === 0 || traces.length > MAX_STEPS) return;
    const line = lineOf(job);
    const fingerprint = digestOf(fingerprintText(traces));
    if (traces.some((trace) => trace.ran && !isPassingTrace(trace))) {
      this.#newest.delete(line);
      this.#later(ref, async () => this.#explain(job, line, fingerprint));
      return;
    }
    this.#results.set(ref, { steps: passingSteps(traces), comparedWith: 0 });
    if (this.#newest.get(line) === fingerprint) return;
    this.#newest.set(line, fingerprint);
    this.#enqueue(async () => {
      const { store } = this.#options;
      if (store.touch(line, fingerprint)) return;
      this.#put(line, fingerprint, keptBuild(job, endedSteps(traces, store.salt)), store.builds(line));
    });
  }

  /** Why the steps of a build ran; waits while that is found out. undefined for a build that is not known. */
  async find(ref: string): Promise<BuildExplanation | undefined> {
    return (await this.#results.get(ref)) ?? this.#options.store.result(ref);
  }

  /** For when the record of a build is removed. */
  forget(ref: string): void {
    this.#results.delete(ref);
    this.#options.store.dropResult(ref);
  }

  /** Waits until all is written. */
  async close(): Promise<void> {
    while (this.#looks.size > 0) await Promise.all([...this.#looks.values()].flatMap((all) => [...all]));
    await this.#queue;
  }

  /**
   * Why those steps ran that did so far, of a build that goes on; undefined while there are none. The end may tell
   * something else, when another build ends before this one does.
   */
  async soFar(job: OpenJob): Promise<BuildExplanation | undefined> {
    const { traces } = job;
    if (traces.length > MAX_STEPS || !traces.some((trace) => trace.ran && !isPassingTrace(trace)))
      return undefined;
    await this.settled(traces);
    const { store } = this.#options;
    return this.#compare(job, endedSteps(traces, store.salt), store.builds(lineOf(job)));
  }

  #compare(
    { attrs }: OpenJob,
    steps: readonly EndedStep[],
    earlier: readonly KeptBuild[],
  ): Promise<BuildExplanation> {
    const { store, jobs } = this.#options;
    return explainBuild({ args: argsOf(attrs), steps }, earlier, (before, after, limit) =>
      jobs.run('compareManifests', {
        before: store.manifest(before),
        after: store.manifest(after),
        limit,
      }),
    );
  }

  async #explain(job: OpenJob, line: string, fingerprint: string): Promise<BuildExplanation> {
    const { store } = this.#options;
    const steps = endedSteps(job.traces, store.salt);
    const build = keptBuild(job, steps);
    const earlier = store.builds(line);
    const explanation = await this.#compare(job, steps, earlier);
    this.#put(line, fingerprint, build, earlier);
    store.putResult(job.ref, explanation);
    this.#onExplained?.(job.ref, explanation);
    return explanation;
  }

  #put(line: string, fingerprint: string, build: KeptBuild, earlier: readonly KeptBuild[]): void {
    this.#options.store.put(line, fingerprint, withEarlierContents(build, earlier));
  }

  #later(ref: string, work: () => Promise<BuildExplanation>): void {
    const pending = this.#enqueue(work).then((explanation) => {
      if (this.#results.get(ref) === pending) this.#results.delete(ref); // the store has it
      return explanation ?? NOTHING;
    });
    this.#results.set(ref, pending);
  }

  /** One after the other: each build is compared with those before it. */
  #enqueue<T>(work: () => Promise<T>): Promise<T | undefined> {
    const run = this.#queue.then(work).catch((error: unknown) => {
      this.#options.log.warn('could not find out why steps ran', { error });
      return undefined;
    });
    this.#queue = run;
    return run;
  }
}

const NOTHING: BuildExplanation = { steps: [], comparedWith: 0 };

function passingSteps(traces: readonly Trace[]): BuildExplanation['steps'] {
  return traces
    .filter((trace) => trace.ran)
    .map(({ vertex: { digest, name } }) => ({
      vertex: digest,
      name,
      cached: false,
      causes: [cause('uncacheable')],
    }));
}

/** Builds that are compared with one another have the same. */
function lineOf({ attrs, folders }: OpenJob): string {
  return digestOf(JSON.stringify([attrs.context ?? '', attrs.filename ?? '', folders]));
}

function keptBuild({ attrs }: OpenJob, steps: readonly EndedStep[]): KeptBuild {
  return { args: argsOf(attrs), at: Date.now(), steps: steps.map(keptStep) };
}

/** Names of the build arguments. */
function argsOf(attrs: OpenJob['attrs']): string[] {
  return Object.keys(attrs)
    .filter((key) => key.startsWith(BUILD_ARG))
    .map((key) => key.slice(BUILD_ARG.length));
}

/** Steps found by their history did not look at content: what an equal one knew of it still holds. */
function withEarlierContents(build: KeptBuild, earlier: readonly KeptBuild[]): KeptBuild {
  const nearest = nearestBuild(build.steps, earlier);
  if (!nearest) return build;
  const steps = build.steps.map((step, i): KeptStep => {
    const before = nearest.build.steps[nearest.match.steps.get(i)?.index ?? -1];
    if (!before || !step.contents.includes('') || step.contents.length !== before.contents.length)
      return step;
    if (!step.keys.some((key) => before.keys.includes(key))) return step;
    const contents = step.contents.map((digest, at) => digest || (before.contents[at] ?? ''));
    return { ...step, contents, pin: step.pin || before.pin };
  });
  return { ...build, steps };
}
