import type { Logger } from '../base/log.ts';
import type { Fsck } from '../fsck/fsck.ts';
import { type CheckResponse, StoreCheckDefinition } from '../pb/check.ts';
import { type RegisteredService, service } from '../rpc/server.ts';
import type { Worker } from './worker.ts';

/** The check of the store on the wire: a service of our own. */
export function checkService(fsck: Fsck): RegisteredService {
  return service(StoreCheckDefinition, {
    check: async function* ({ deep, repair }, { signal }): AsyncGenerator<CheckResponse> {
      const run = fsck.run({ deep, repair, signal });
      for (;;) {
        const next = await run.next();
        if (next.done) {
          const { records, keys, leases, snapshots, blobs, trash, temporary } = next.value;
          const counts = {
            records: BigInt(records),
            keys: BigInt(keys),
            leases: BigInt(leases),
            snapshots: BigInt(snapshots),
            blobs: BigInt(blobs),
            trash: BigInt(trash),
            temporary: BigInt(temporary),
          };
          yield { event: { $case: 'counts', value: counts } };
          return;
        }
        const { failure = '', ...finding } = next.value;
        yield { event: { $case: 'finding', value: { ...finding, failure } } };
      }
    },
  });
}

/**
 * After the database was rebuilt from what could be read of it, rows may be missing anywhere: repairs the store in the
 * background. Disposing waits for that; `signal` ends it.
 */
export function repairWhenRebuilt(
  { fsck, store }: Pick<Worker, 'fsck' | 'store'>,
  signal: AbortSignal,
  log: Logger,
): AsyncDisposable {
  let running = Promise.resolve();
  const repair = async (): Promise<void> => {
    try {
      let found = 0;
      for await (const report of fsck.run({ deep: false, repair: true, signal })) {
        found++;
        const { kind, id, problem, repaired } = report;
        log.warn(`store check: ${kind}: ${problem}`, { id, repaired });
      }
      log.info('the store was checked and repaired', { found });
    } catch (error) {
      if (!signal.aborted) log.error('could not repair the store', { error });
    }
  };
  store.whenRebuilt(() => {
    running = running.then(repair);
  });
  return { [Symbol.asyncDispose]: () => running };
}
