import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { digestOf } from '../../base/digest.ts';
import { Code, hasCode } from '../../base/errors.ts';
import type { ContentStore } from '../../store/content.ts';

export interface ContentFixture extends AsyncDisposable {
  readonly content: ContentStore;
  /** A lease that holds what the test writes. */
  readonly lease: string;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all).toString();
}

/** What every ContentStore must do (FEATURES F10). */
export function contentContract(name: string, create: () => Promise<ContentFixture>): void {
  ingestTests(name, create);

  test(`${name}: reads ranges, lists, labels`, async () => {
    await using fixture = await create();
    const { content, lease } = fixture;
    const { digest } = await content.writeBlob(bytes('0123456789'), { lease, labels: { a: '1' } });
    assert.equal(await collect(content.read(digest)), '0123456789');
    assert.equal(await collect(content.read(digest, { offset: 3, length: 4 })), '3456');
    assert.equal(await collect(content.read(digest, { offset: 8, length: 100 })), '89');
    assert.equal(await collect(content.read(digest, { offset: 50 })), '');
    const other = await content.writeBlob(bytes('other'), { lease });
    const listed: string[] = [];
    for await (const info of content.list()) listed.push(info.digest);
    assert.deepEqual(listed, [digest, other.digest].sort());
    const updated = content.updateLabels(digest, { a: null, b: '2' });
    assert.deepEqual(updated.labels, { b: '2' });
    assert.deepEqual(content.info(digest)?.labels, { b: '2' });
    assert.ok(await content.verify(digest));
  });

  test(`${name}: a missing blob is not found`, async () => {
    await using fixture = await create();
    const { content } = fixture;
    const digest = digestOf('nothing');
    assert.equal(content.info(digest), undefined);
    assert.equal(content.has(digest), false);
    assert.throws(
      () => content.path(digest),
      (e) => hasCode(e, Code.notFound),
    );
    await assert.rejects(collect(content.read(digest)), (e) => hasCode(e, Code.notFound));
    assert.throws(
      () => content.updateLabels(digest, { a: 'b' }),
      (e) => hasCode(e, Code.notFound),
    );
  });

  test(`${name}: takes over a file that was hashed elsewhere`, async () => {
    await using fixture = await create();
    const { content, lease } = fixture;
    const digest = digestOf('from a worker');
    const path = content.tmpPath('layer');
    await writeFile(path, 'from a worker');
    await assert.rejects(content.commitFile(path, { digest, size: 5, lease }), /unexpected size/);
    const result = await content.commitFile(path, { digest, size: 13, lease, labels: { k: 'v' } });
    assert.deepEqual(result, { digest, size: 13, alreadyExists: false });
    assert.equal(await collect(content.read(digest)), 'from a worker');
    const again = content.tmpPath('layer');
    await writeFile(again, 'from a worker');
    assert.equal((await content.commitFile(again, { digest, size: 13, lease })).alreadyExists, true);
    await assert.rejects(content.commitFile('/etc/passwd', { digest, size: 13, lease }), /is not in/);
  });

  test(`${name}: abort ends a read, a size limit refuses one`, async () => {
    await using fixture = await create();
    const { content, lease } = fixture;
    const { digest } = await content.writeBlob(new Uint8Array(3 << 20), { lease });
    const abort = new AbortController();
    await assert.rejects(async () => {
      for await (const _ of content.read(digest, { signal: abort.signal })) abort.abort();
    }, /abort/);
    await assert.rejects(content.readAll(digest, { maxBytes: 100 }), (e) =>
      hasCode(e, Code.resourceExhausted),
    );
    assert.equal((await content.readAll(digest)).length, 3 << 20);
  });
}

function ingestTests(name: string, create: () => Promise<ContentFixture>): void {
  test(`${name}: a blob is written once and an existing one is no error`, async () => {
    await using fixture = await create();
    const { content, lease } = fixture;
    for (const alreadyExists of [false, true]) {
      await using writer = await content.writer({ ref: 'r', total: 11, expected: digestOf('hello world') });
      await writer.write(bytes('hello '));
      await writer.write(bytes('world'));
      assert.deepEqual(await writer.commit({ lease }), {
        digest: digestOf('hello world'),
        size: 11,
        alreadyExists,
      });
    }
    assert.deepEqual(content.ingests(), []);
  });

  test(`${name}: a ref has one writer, and an interrupted one resumes`, async () => {
    await using fixture = await create();
    const { content, lease } = fixture;
    {
      await using writer = await content.writer({ ref: 'r', total: 6 });
      await writer.write(bytes('abcX'));
      await assert.rejects(content.writer({ ref: 'r' }), (e) => hasCode(e, Code.unavailable));
      assert.equal(content.ingests()[0]?.offset, 4);
    }
    await using writer = await content.writer({ ref: 'r' });
    assert.equal(writer.offset, 4);
    await writer.truncate(3);
    assert.equal(writer.offset, 3);
    await writer.write(bytes('def'));
    await assert.rejects(writer.write(bytes('!')), /more than the expected/);
    const { digest } = await writer.commit({ lease });
    assert.equal(digest, digestOf('abcdef'));
    await assert.rejects(writer.write(bytes('late')), /closed/);
  });

  test(`${name}: many small pieces, dropped in part and written on`, async () => {
    await using fixture = await create();
    const { content, lease } = fixture;
    const whole = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7) % 251));
    await using writer = await content.writer({ ref: 'pieces', total: whole.length });
    for (let at = 0; at < 200_000; at += 37)
      await writer.write(whole.subarray(at, Math.min(at + 37, 200_000)));
    assert.equal(writer.offset, 200_000);
    await writer.truncate(150_001);
    for (let at = 150_001; at < whole.length; at += 4099) await writer.write(whole.subarray(at, at + 4099));
    const { digest } = await writer.commit({ lease });
    assert.equal(digest, digestOf(whole));
    assert.ok(whole.equals(await content.readAll(digest)));
  });

  test(`${name}: wrong size or digest publishes nothing and is not resumed`, async () => {
    await using fixture = await create();
    const { content, lease } = fixture;
    for (const wrong of [{ size: 4 }, { digest: digestOf('other') }]) {
      await using writer = await content.writer({ ref: 'bad' });
      assert.equal(writer.offset, 0);
      await writer.write(bytes('bytes'));
      await assert.rejects(writer.commit({ ...wrong, lease }), /unexpected commit/);
      assert.equal(content.has(digestOf('bytes')), false);
    }
    await using writer = await content.writer({ ref: 'gone' });
    await writer.write(bytes('x'));
    await writer[Symbol.asyncDispose]();
    await content.abortIngest('gone');
    await assert.rejects(content.abortIngest('gone'), (e) => hasCode(e, Code.notFound));
  });
}
