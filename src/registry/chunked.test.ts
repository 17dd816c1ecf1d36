import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from '../base/errors.ts';
import { Random } from '../testing/fuzz/random.ts';
import { ChunkedDecoder } from './chunked.ts';

const SEED = 20_262;
const PIECES = [
  '0',
  '1',
  'a',
  'FF',
  ';x=y',
  '\r',
  '\n',
  '\r\n',
  '\r\n\r\n',
  ' ',
  'x: y',
  'data',
  '\0',
  '\xff',
];

/** What comes of `text` in pieces of `size`. */
function decoded(text: string, size = text.length): { data: string; done: boolean } {
  const decoder = new ChunkedDecoder();
  let data = '';
  for (let at = 0; at < text.length; at += size)
    data += Buffer.concat(decoder.push(Buffer.from(text.slice(at, at + size), 'latin1'))).toString('latin1');
  return { data, done: decoder.isDone };
}

test('chunks in pieces of any size, with extensions and trailers', () => {
  const text = '3;a=b\r\nabc\r\n0A \r\n0123456789\r\n000\r\nx: y\r\nz: w\r\n\r\n';
  for (let size = 1; size <= text.length; size++)
    assert.deepEqual(decoded(text, size), { data: 'abc0123456789', done: true }, `${size}`);
  assert.deepEqual(decoded('0\r\n\r\n'), { data: '', done: true });
  assert.deepEqual(decoded('4\r\nab'), { data: 'ab', done: false });
});

test('what is no chunk is refused', () => {
  const bad = [
    'x\r\n',
    '\r\n',
    '-1\r\n',
    '1\na',
    '1\r\nab\r\n',
    `1;${'x'.repeat(5000)}`,
    '0\r\n\r\nmore',
    'ffffffffffffff\r\n',
  ];
  for (const text of [...bad, `0\r\n${'x: y\r\n'.repeat(20_000)}`])
    assert.throws(() => decoded(text), BuildError, JSON.stringify(text.slice(0, 20)));
});

test('any bytes are decoded or refused, and give no more than they are', () => {
  const random = new Random(SEED);
  let done = 0;
  for (let i = 0; i < 20_000; i++) {
    const text = random.list(12, () => random.pick(PIECES)).join('');
    try {
      const whole = decoded(text);
      assert.ok(whole.data.length <= text.length);
      assert.deepEqual(decoded(text, 1 + random.below(5)), whole);
      if (whole.done) done++;
    } catch (error) {
      assert.ok(error instanceof BuildError, `case ${i} of seed ${SEED}: ${(error as Error).stack}`);
    }
  }
  assert.ok(done > 10, `${done} were whole`);
});
