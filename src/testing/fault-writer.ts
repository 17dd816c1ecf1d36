// Writes to a store, says what is done, and kills itself at one of the points where it writes. For fsck/faults.test.ts.
//   node fault-writer.ts ROOT POINT before|after
// Without a kill it says how many points there are.
import { rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '../base/digest.ts';
import { silentLogger } from '../base/log.ts';
import type { MutableRef } from '../cache/ref.ts';
import { Database } from '../store/database.ts';
import { realFiles, type StoreFiles } from '../store/files.ts';
import { storeJobs } from '../store/jobs.ts';
import { openStore } from '../store/store.ts';
import { openTestCache } from './cache.ts';
import { withMounted } from './contracts/snapshot.ts';
import { inlineJobs } from './store.ts';

const [root = '', point = '0', when = 'before'] = process.argv.slice(2);
let points = 0;

/** One of the points: the process ends before or after it. */
function at<T>(work: () => T): T {
  const isLast = ++points === Number(point);
  if (isLast && when === 'before') process.kill(process.pid, 'SIGKILL');
  const result = work();
  if (!isLast) return result;
  if (result instanceof Promise) return result.finally(() => process.kill(process.pid, 'SIGKILL')) as T;
  process.kill(process.pid, 'SIGKILL');
  return result;
}

const files: StoreFiles = {
  rename: (from, to) => at(() => realFiles.rename(from, to)),
  renameSync: (from, to) => at(() => realFiles.renameSync(from, to)),
  sync: (path) => at(() => realFiles.sync(path)),
  makeDir: (path, mode) => at(() => realFiles.makeDir(path, mode)),
};

// Each commit is a point, too.
const { transaction, run } = Database.prototype;
let depth = 0;
function outermost<T>(work: () => T): T {
  if (depth > 0) return work();
  return at(() => {
    depth++;
    try {
      return work();
    } finally {
      depth--;
    }
  });
}
Database.prototype.transaction = function <T>(this: Database, work: () => T): T {
  return outermost(() => transaction.call(this, work) as T);
};
Database.prototype.run = function (...args): number {
  return outermost(() => run.apply(this, args));
};

function done(line: string): void {
  writeSync(1, `${line}\n`);
}

async function fill(mutable: MutableRef, name: string): Promise<void> {
  await using view = await mutable.mount(false);
  withMounted(view.mounts, (dir) => writeFileSync(join(dir, name), name));
}

const store = openStore({
  root,
  snapshotter: 'overlayfs',
  jobs: inlineJobs(storeJobs),
  log: silentLogger,
  files,
});
const refs = openTestCache(store);
const lease = store.leases.create({ id: 'lasting' });
const plain = { type: 'gzip', force: false } as const;

await store.content.writeBlob(Buffer.from('a blob'), { lease: lease.id });
done(`blob ${digestOf(Buffer.from('a blob'))}`);
const first = await refs.newMutable(undefined);
await fill(first, 'below');
const below = await first.commit();
done(`record ${below.id} below`);
const [layer] = await below.ensureBlobs({ compression: plain, lease: lease.id });
done(`blob ${layer!.digest}`);
const second = await refs.newMutable(below, { retain: true });
await fill(second, 'top');
const { id: cacheId } = second;
const top = await second.commit();
await top.finalize();
done(`record ${top.id} below top`);
done(`gone ${cacheId}`);
// A tree that is lost is made again below what stands on it.
const { id } = store.db.get<{ id: number }>('SELECT id FROM snapshots WHERE parent IS NULL')!;
rmSync(join(store.layout.snapshots, String(id)), { recursive: true });
await below.extract();
await using view = await top.mount(true);
done(`record ${top.id} below top`);
await view.release();
const third = await refs.newMutable(top);
await fill(third, 'passing');
const passing = await third.commit();
await passing.release();
await top.release();
await below.release();
done(`pruned ${passing.id}`);
for await (const _ of refs.prune([{ all: true, filters: [`id==${passing.id}`] }]));
await store.trashEmptied();
done('end');
done(`points ${points}`);
process.kill(process.pid, 'SIGKILL');
