import { parentPort } from 'node:worker_threads';
import { BuildError, canceled } from '../base/errors.ts';
import type { JobContext, JobRunner, Jobs } from './types.ts';
import { fromPlainError, type JobMessage, toPlainError, type WorkerMessage } from './wire.ts';

/** Called by the worker entry: serves `jobs` to the pool that started this thread, one at a time. */
export function serveJobs(jobs: Jobs): void {
  const port = parentPort;
  if (!port) throw new Error('serveJobs: not in a worker thread');
  const send = (message: WorkerMessage, transfer?: readonly ArrayBuffer[]): void =>
    port.postMessage(message, transfer ? [...transfer] : []);
  port.on('message', (message: JobMessage) => {
    const flag = new Int32Array(message.abort);
    const transfer: ArrayBuffer[] = [];
    const context: JobContext = {
      throwIfAborted: () => {
        if (Atomics.load(flag, 0) !== 0) throw canceled();
      },
      report: (value) => send({ kind: 'progress', value }),
      transfer: (...buffers) => void transfer.push(...buffers),
    };
    const work = async (): Promise<void> => {
      try {
        const value: unknown = await lookUp(jobs, message.name)(message.input, context);
        send({ kind: 'done', value }, transfer);
      } catch (error) {
        send({ kind: 'failed', error: toPlainError(error) });
      }
    };
    void work();
  });
  send({ kind: 'ready' });
}

/** Runs jobs on the calling thread, one turn later, with the errors and copies of the pool. For tests. */
export function inlineRunner<J extends Jobs>(jobs: J): JobRunner<J> {
  return {
    run: async (name, input, options = {}) => {
      options.signal?.throwIfAborted();
      await Promise.resolve();
      const context: JobContext = {
        throwIfAborted: () => options.signal?.throwIfAborted(),
        report: (value) => options.onProgress?.(structuredClone(value)),
        transfer: () => {},
      };
      try {
        const copy = structuredClone(input, { transfer: [...(options.transfer ?? [])] });
        const result: unknown = await lookUp(jobs, name)(copy, context);
        options.signal?.throwIfAborted();
        return structuredClone(result) as never;
      } catch (error) {
        options.signal?.throwIfAborted();
        throw error instanceof BuildError ? error : fromPlainError(toPlainError(error));
      }
    },
  };
}

function lookUp(jobs: Jobs, name: string): Jobs[string] {
  const job = Object.hasOwn(jobs, name) ? jobs[name] : undefined;
  if (!job) throw new Error(`unknown job ${JSON.stringify(name)}`);
  return job;
}
