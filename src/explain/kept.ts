import type { Digest } from '../base/digest.ts';
import type { VertexSpec } from '../llb/parse.ts';
import { isPassing } from '../solver/keystore.ts';
import type { VertexTrace } from '../solver/types.ts';
import { type Facts, factsOf } from './facts.ts';

const COMMAND_KEY = 'com.docker.dockerfile.v1.command';

/** What is kept of a step: all that its key was made of. */
export interface KeptStep {
  readonly name: string;
  /** The instruction as it stands in the file. */
  readonly code?: string;
  /** Kind of op. */
  readonly kind: string;
  readonly facts: Facts;
  /** What a source has resolved to. */
  readonly pin: string;
  /** Where in the build's list its inputs are; -1 for one that is not kept. */
  readonly inputs: readonly number[];
  /** Digest of each input's content, '' where nobody looked. */
  readonly contents: readonly string[];
  /** Where its outputs stand in the cache graph. */
  readonly keys: readonly string[];
  readonly end: 'done' | 'failed' | 'not reached';
}

export interface KeptBuild {
  /** Names of the build arguments given. */
  readonly args: readonly string[];
  /** When it ended, Unix milliseconds. */
  readonly at: number;
  readonly steps: readonly KeptStep[];
}

/** A step of the build that has just ended. */
export interface EndedStep extends KeptStep {
  readonly vertex: Digest;
  readonly ran: boolean;
  /** Keys by which steps on top of it may be found. */
  readonly matches: readonly string[];
  readonly ignoreCache: boolean;
  /** It is never found again. */
  readonly passing: boolean;
  readonly lost: string | undefined;
}

export type Trace = VertexTrace<VertexSpec>;

/** A source of which nothing is kept, as a client's folder. */
export function isPassingTrace({ maps }: Trace): boolean {
  return maps[0] !== undefined && isPassing(maps[0].digest);
}

/** Two builds of the same fingerprint have the same steps with the same keys. */
export function fingerprintText(traces: readonly Trace[]): string {
  const parts: string[] = [];
  for (const { vertex, maps, contents, keys, state } of traces) {
    const map = maps[0]?.digest ?? '';
    parts.push(vertex.name, isPassing(map) ? '' : map, state.error === '' ? '' : 'failed');
    for (const content of contents) parts.push(content ?? '');
    for (const key of keys) if (!isPassing(key)) parts.push(key);
  }
  return parts.join('\n');
}

export function endedSteps(all: readonly Trace[], salt: string): EndedStep[] {
  // One that was asked for anew, since its result was lost, is there twice.
  const traces = [...new Map(all.map((trace) => [trace.vertex.digest, trace])).values()];
  const index = new Map(traces.map(({ vertex }, i) => [vertex.digest, i]));
  return traces.map((trace) => {
    const { vertex, state, maps, contents, keys, matches, ran, lost } = trace;
    const { op, platform } = vertex.spec;
    const code = vertex.options.description[COMMAND_KEY];
    const finished = state.completed !== undefined && state.error === '';
    return {
      vertex: vertex.digest,
      name: vertex.name,
      ...(code === undefined ? {} : { code }),
      kind: op.op?.$case ?? '',
      facts: factsOf(op, platform, salt),
      pin: maps.at(-1)?.pin ?? '',
      inputs: vertex.inputs.map((input) => index.get(input.vertex.digest) ?? -1),
      contents: contents.map((content) => content ?? ''),
      keys: keys.filter((key) => !isPassing(key)),
      matches: matches.filter((key) => !isPassing(key)),
      end: finished ? 'done' : state.error === '' ? 'not reached' : 'failed',
      ran,
      ignoreCache: vertex.options.ignoreCache,
      passing: isPassingTrace(trace),
      lost,
    };
  });
}

export function keptStep(step: EndedStep): KeptStep {
  const { name, code, kind, facts, pin, inputs, contents, keys, end } = step;
  return { name, ...(code === undefined ? {} : { code }), kind, facts, pin, inputs, contents, keys, end };
}
