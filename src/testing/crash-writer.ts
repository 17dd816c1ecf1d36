// Writes steps, blobs and rubbish into the store given as argument until it is killed; says what is done.
import { writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { ImmutableRef } from '../cache/ref.ts';
import { openTestCache } from './cache.ts';
import { openTestStore } from './store.ts';

const store = openTestStore(process.argv[2]!);
const refs = openTestCache(store);

async function write(): Promise<never> {
  let top: ImmutableRef | undefined;
  for (let i = 0; ; i++) {
    const work = store.leases.hold();
    const mutable = await refs.newMutable(top);
    writeFileSync(join(store.snapshots.layout(mutable.id)!.upperDir, 'file'), `${process.pid} ${i}`);
    const ref = await mutable.commit();
    const data = Buffer.from(`${process.pid} blob ${i}`);
    const { digest } = await store.content.writeBlob(data, { lease: ref.id });
    writeSync(1, `${ref.id} ${digest}\n`);
    await store.content.writeBlob(Buffer.from(`${process.pid} rubbish ${i}`), { lease: work.id });
    const dropped = await refs.newMutable(ref);
    await dropped.release();
    if (top) {
      await using merged = refs.merge([ref, top]);
      await merged.extract();
      writeSync(1, `${merged.id} ${digest}\n`);
    }
    work[Symbol.dispose]();
    if (i % 5 === 0) await store.gc();
    await top?.release();
    top = i % 20 === 19 ? undefined : ref;
  }
}

await write();
