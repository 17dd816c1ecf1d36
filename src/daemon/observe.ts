import type { Logger } from '../base/log.ts';
import type { Slots } from '../solver/slots.ts';
import type { EdgeState, JobState } from '../solver/state.ts';
import type { DaemonConfig } from './config.ts';
import { serveDebug } from './debug-server.ts';
import { type QueuedJob, QueueProgress } from './queue-progress.ts';
import { StallWatch } from './stall-watch.ts';
import { dumpLines, dumpState, type StateSources } from './state-dump.ts';

/** Asks a daemon to write the state of its builds to its log. The first user signal is the runtime's own. */
const DUMP_SIGNAL = 'SIGUSR2';

export function sourcesOf(
  solver: { dump(): readonly EdgeState[]; jobStates(): readonly JobState[] },
  slots: Slots,
): StateSources {
  return { edges: () => solver.dump(), jobs: () => solver.jobStates(), slots: () => slots.state };
}

/** Makes the state of builds seen, until disposed: by a signal, over http, by warnings, and in their own progress. */
export async function observe(
  sources: StateSources,
  solver: { find(id: string): QueuedJob | undefined },
  { debugAddress, stallWarningMs }: Pick<DaemonConfig, 'debugAddress' | 'stallWarningMs'>,
  log: Logger,
): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  stack.use(new StallWatch(sources, stallWarningMs, log));
  stack.use(new QueueProgress(sources.slots, (id) => solver.find(id)));
  const dump = (): void => {
    for (const line of dumpLines(dumpState(sources))) log.info(`state: ${line}`);
  };
  process.on(DUMP_SIGNAL, dump);
  stack.defer(() => void process.off(DUMP_SIGNAL, dump));
  if (debugAddress) {
    const server = stack.use(await serveDebug(debugAddress, sources));
    log.info(`state of builds at ${server.address}/debug/solver`);
  }
  return stack.move();
}
