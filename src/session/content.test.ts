import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Digest, digestHex, digestOf } from '../base/digest.ts';
import { Code } from '../base/errors.ts';
import { putBlob, sessionContent } from './caller/content.ts';
import { withSession } from './harness.ts';
import { contentService } from './host/content.ts';
import { contentDirectory } from './host/content-directory.ts';

const dir = mkdtempSync(join(tmpdir(), 'content-'));
after(() => rmSync(dir, { recursive: true }));

test('a content store over a session: write, resume, check, read parts, labels, delete', async () => {
  const services = [contentService(new Map([['export', contentDirectory(dir)]]))];
  await withSession(services, async (session, signal) => {
    const store = sessionContent(session, 'export');
    const data = Buffer.alloc(2_500_000, 'layer');
    const digest = digestOf(data);
    {
      await using writer = await store.writer({ ref: 'r', expected: digest, signal });
      await writer.write(data.subarray(0, 1_000_000));
    }
    for (let i = 0; i < 100 && (await store.ingests())[0]?.offset !== 1_000_000; i++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    const again = await store.writer({ ref: 'r', total: data.length, signal });
    assert.equal(again.offset, 1_000_000);
    await again.write(data.subarray(1_000_000));
    assert.equal(await again.commit({ size: data.length, digest, labels: { a: '1' } }), digest);
    assert.ok(readFileSync(join(dir, 'blobs/sha256', digestHex(digest))).equals(data));
    assert.ok(!existsSync(join(dir, 'ingest', digestHex(digestOf('r')))));
    const info = await store.info(digest);
    assert.deepEqual([info.size, info.labels], [data.length, { a: '1' }]);
    const part = await Array.fromAsync(store.read(digest, { offset: 7, length: 300_000 }));
    assert.ok(Buffer.concat(part).equals(data.subarray(7, 300_007)));
    assert.deepEqual((await store.updateLabels(digest, { a: '', b: '2' })).labels, { b: '2' });
    assert.deepEqual(
      (await Array.fromAsync(store.list())).map((i) => i.digest),
      [digest],
    );
    await assert.rejects(store.writer({ ref: 'other', expected: digest }), { code: Code.alreadyExists });
    const wrong = await store.writer({ ref: 'wrong' });
    await wrong.write(Buffer.from('x'));
    await assert.rejects(wrong.commit({ digest: digestOf('y') }), { code: Code.failedPrecondition });
    await assert.rejects(Array.fromAsync(store.read(digest, { offset: data.length + 1 })), {
      code: Code.outOfRange,
    });
    await store.delete(digest);
    await assert.rejects(store.info(digest), { code: Code.notFound });
    await assert.rejects(store.info('sha256:zz' as Digest), { code: Code.invalidArgument });
    await assert.rejects(sessionContent(session, 'nope').info(digest), /unknown store nope/);
  });
});

test('one blob put into a store: whole, over what was left of an attempt, and once', async () => {
  const root = mkdtempSync(join(dir, 'put-'));
  const services = [contentService(new Map([['export', contentDirectory(root)]]))];
  await withSession(services, async (session, signal) => {
    const store = sessionContent(session, 'export');
    const data = Buffer.alloc(1_500_000, 'blob');
    const blob = { digest: digestOf(data), size: data.length };
    async function* chunks(): AsyncGenerator<Uint8Array> {
      yield data.subarray(0, 1_400_000);
      yield data.subarray(1_400_000);
    }
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield data.subarray(0, 100_000);
      throw new Error('source broke');
    }
    await assert.rejects(putBlob(store, blob, failing(), { signal }), /source broke/);
    for (let i = 0; i < 100 && (await store.ingests())[0]?.offset !== 100_000; i++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await putBlob(store, blob, chunks(), { signal });
    await putBlob(store, blob, failing(), { signal });
    const stored = readFileSync(join(root, 'blobs/sha256', digestHex(blob.digest)));
    assert.ok(stored.equals(data));
  });
});
