import type { Digest } from '../base/digest.ts';
import type { Activity } from './activities.ts';
import type { Edge } from './edge.ts';
import type { Result } from './types.ts';

/** One edge of a state dump. */
export interface EdgeState {
  readonly vertex: Digest;
  readonly name: string;
  readonly output: number;
  /** The question that the edge is at. */
  readonly stage: string;
  /** Unix milliseconds since when it is. */
  readonly since?: number;
  /** Solves that wait for it. */
  readonly wanted: number;
  readonly jobs: readonly string[];
  /** What its vertex does, and what it waits for beside inputs. */
  readonly doing: readonly Activity[];
  /** Inputs whose answer is not there yet, and what they are at. */
  readonly waitsFor: readonly string[];
}

/** One job of a state dump. */
export interface JobState {
  readonly id: string;
  /** Unix milliseconds of the last thing that its readers were told. */
  readonly lastProgress: number;
  /** Work beside vertexes: exports, imports. */
  readonly doing: readonly Activity[];
}

export function edgeState<Spec, R extends Result>({ shared, index, stage }: Edge<Spec, R>): EdgeState {
  return {
    vertex: shared.vertex.digest,
    name: shared.vertex.name,
    output: index,
    stage: stage.name,
    ...(stage.since === undefined ? {} : { since: stage.since }),
    wanted: shared.wanted,
    jobs: [...shared.owners].map((owner) => owner.id),
    doing: [...shared.doing, ...shared.caches.waits],
    waitsFor: shared.inputs
      .filter((input) => !input.isSolved)
      .map((input) => `${input.shared.vertex.name} (${input.stage.name})`),
  };
}

/** Whether an edge has work under way that somebody waits for. */
export function isUnderWay({ wanted, since, doing }: EdgeState): boolean {
  return wanted > 0 && (since !== undefined || doing.length > 0);
}
