import type * as pb from '../pb/control.ts';
import type { SolveStatus } from '../solver/types.ts';
import type { History } from './history/history.ts';
import { statusToWire } from './status-wire.ts';

export interface StatusSources {
  readonly history: History;
  /** The progress of an open job; waits a little for one. @throws when there is none */
  readonly running: (ref: string, signal: AbortSignal) => Promise<AsyncIterable<SolveStatus>>;
}

/** Control.Status (FEATURES B22): the log of a finished build, or what a running one did and does. */
export async function* buildStatus(
  ref: string,
  signal: AbortSignal,
  { history, running }: StatusSources,
): AsyncGenerator<pb.StatusResponse> {
  let stored = history.log(ref, signal);
  if (!stored) {
    const ended = history.ended(ref);
    // Between the end of the job and that of its record there is neither of the two.
    const job = await Promise.race([running(ref, signal), ...(ended ? [ended] : [])]);
    if (job) for await (const update of job) yield* statusToWire(update);
    else stored = history.log(ref, signal);
  }
  if (stored) yield* stored;
}
