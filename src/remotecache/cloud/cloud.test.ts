import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Semaphore } from '../../base/semaphore.ts';
import { escapeXml, StoreError, xmlText } from './errors.ts';
import { sendParts } from './parts.ts';
import { mayPass, Retrier } from './retry.ts';

const { signal } = new AbortController();

async function* bytes(size: number, chunk: number): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < size; at += chunk)
    yield Buffer.from(Array.from({ length: Math.min(chunk, size - at) }, (_, i) => (at + i) % 251));
}

test('content is cut into parts, of which only so many are in memory', async () => {
  for (const [size, chunk] of [
    [0, 1],
    [9, 4],
    [10, 10],
    [25, 7],
    [30, 100],
  ] as const) {
    const slots = new Semaphore(2);
    let held = 0;
    let most = 0;
    const parts = await sendParts(
      bytes(size, chunk),
      { sizeBytes: size, partBytes: 10, slots, signal },
      async (data) => {
        most = Math.max(most, ++held);
        await sleep(2);
        held--;
        return Buffer.from(data);
      },
    );
    assert.deepEqual(
      parts.map(({ length }) => length),
      size === 0 ? [0] : Array.from({ length: Math.ceil(size / 10) }, (_, i) => Math.min(10, size - i * 10)),
    );
    assert.ok(Buffer.concat(parts).every((byte, i) => byte === i % 251));
    assert.equal(most, Math.min(2, parts.length));
  }
});

test('a part that fails ends the others and the reading', async () => {
  const slots = new Semaphore(2);
  let closed = false;
  const content = async function* () {
    try {
      for (;;) yield new Uint8Array(10);
    } finally {
      closed = true;
    }
  };
  const sent: number[] = [];
  const work = sendParts(
    content(),
    { sizeBytes: 1000, partBytes: 10, slots, signal },
    async (_, index, own) => {
      sent.push(index);
      if (index === 1) throw new Error('no room');
      await sleep(10_000, undefined, { signal: own });
    },
  );
  await assert.rejects(work, /no room/);
  assert.ok(closed);
  assert.deepEqual(sent, [0, 1]);
  using _both = await slots.acquire(AbortSignal.timeout(100));
  using _slots = await slots.acquire(AbortSignal.timeout(100));
});

test('reading that fails is the error', async () => {
  const content = async function* () {
    yield new Uint8Array(15);
    throw new Error('disk');
  };
  const options = { sizeBytes: 30, partBytes: 10, slots: new Semaphore(2), signal };
  await assert.rejects(
    sendParts(content(), options, async () => {}),
    /disk/,
  );
});

const answer = (status: number, reason = '', retryAfterMs = 0): StoreError =>
  new StoreError('x', { status, reason, retryAfterMs });

test('what may pass is told from what will not', () => {
  for (const error of [
    answer(500),
    answer(429),
    answer(408),
    answer(400, 'RequestTimeout'),
    answer(400, 'SlowDown'),
    new Error('outer', { cause: Object.assign(new Error(), { code: 'ECONNREFUSED' }) }),
    Object.assign(new Error(), { code: 'ECONNRESET' }),
  ])
    assert.equal(mayPass(error), true, String(error));
  for (const error of [answer(404, 'NoSuchKey'), answer(403), new Error('x')])
    assert.equal(mayPass(error), false, String(error));
});

test('after "slow down" requests come one after the other, where that is asked for', async () => {
  const spread = async (adaptive: boolean): Promise<number> => {
    const retrier = new Retrier({ attempts: 1, adaptive });
    for (let i = 0; i < 2; i++)
      await assert.rejects(retrier.run(signal, () => Promise.reject(answer(503, 'SlowDown'))));
    const times: number[] = [];
    await Promise.all(
      Array.from({ length: 5 }, () => retrier.run(signal, async () => times.push(Date.now()))),
    );
    return Math.max(...times) - Math.min(...times);
  };
  assert.ok((await spread(false)) < 100);
  assert.ok((await spread(true)) >= 250);
});

test('a store says how long to wait, and a cancel ends that', async () => {
  const retrier = new Retrier({ attempts: 3 });
  let tries = 0;
  const started = Date.now();
  const work = retrier.run(AbortSignal.timeout(1500), () => {
    tries++;
    return Promise.reject(answer(503, '', tries === 1 ? 1000 : 3_600_000));
  });
  await assert.rejects(work);
  const took = Date.now() - started;
  assert.equal(tries, 2);
  assert.ok(took >= 1400 && took < 5000, String(took));
});

test('text of XML', () => {
  assert.equal(
    xmlText('<a><Code x="1">A&amp;B &#x41;&#66; &unknown;</Code></a>', 'Code'),
    'A&B AB &unknown;',
  );
  assert.equal(xmlText('<a/>', 'Code'), '');
  assert.equal(xmlText(`<t>${escapeXml(`<"'&>`)}</t>`, 't'), `<"'&>`);
});
