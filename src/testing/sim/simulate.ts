import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Asked, Told } from './worker.ts';

/** A thread that says nothing for this long goes round in circles, where no clock can tell. */
const LIMIT_MS = 600_000;

/** Simulates seeds in a thread of its own. */
export async function simulateApart(asked: Asked): Promise<Told> {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData: asked, stderr: true });
  worker.stderr.resume(); // says that stripping types is experimental
  const timer = setTimeout(() => void worker.terminate(), LIMIT_MS);
  try {
    const ended = once(worker, 'exit').then(([code]) => {
      throw new Error(
        `seeds ${asked.from} to ${asked.to}: the thread ended with ${code} before it had an answer`,
      );
    });
    const [told] = await Promise.race([once(worker, 'message'), ended]);
    return told as Told;
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}
