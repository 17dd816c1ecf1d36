import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from '../base/errors.ts';
import { Random } from '../testing/fuzz/random.ts';
import { isKeptAlive, parseResponseHead, bodyLength } from './response-head.ts';

const SEED = 20_261;
const CASES = 20_000;
const PARTS = [
  ...['HTTP/1.1 200 OK', 'HTTP/1.0', '1.1', ' ', ' 206 ', '\r\n', '\r\n\r\n', '\n', '\r', ':', '\0', '\xff'],
  ...['Content-Length', 'content-length: ', '12', '-1', '1e3', '99999999999999999999', ', ', '\t'],
  ...['Transfer-Encoding: chunked', 'Connection: close', 'connection: Keep-Alive, x', 'a b: c', 'x: y'],
];

test('any bytes are a head, the beginning of one, or refused', () => {
  const random = new Random(SEED);
  let heads = 0;
  for (let i = 0; i < CASES; i++) {
    const begin = random.once(2) ? 'HTTP/1.1 200 OK\r\n' : '';
    const lines = random.list(8, () => random.pick(PARTS) + random.pick(['', '', '\r\n'])).join('');
    const data = Buffer.from(begin + lines + random.pick(['', '\r\n\r\n']), 'latin1');
    try {
      const head = parseResponseHead(data);
      if (!head) continue;
      heads++;
      assert.ok(head.bytes <= data.length && data.toString('latin1', 0, head.bytes).endsWith('\r\n\r\n'));
      for (const [name, values] of head.headers) {
        assert.equal(name, name.toLowerCase());
        assert.ok(values.every((value) => !/[\r\n\0]/.test(value)));
      }
      isKeptAlive(head);
      const length = bodyLength(head);
      assert.ok(typeof length === 'string' || (Number.isSafeInteger(length) && length >= 0));
    } catch (error) {
      assert.ok(error instanceof BuildError, `case ${i} of seed ${SEED}: ${(error as Error).stack}`);
    }
  }
  assert.ok(heads > CASES / 20, `${heads} heads`);
});

test('the end of a head is looked for only so far', () => {
  assert.equal(parseResponseHead(Buffer.from('HTTP/1.1 200 OK\r\nx: y\r\n')), undefined);
  for (const text of ['SSH-2.0-x\r\n', 'x', '\n', 'HTTP/1.1 200 OK\nx: y\n\n'])
    assert.throws(() => parseResponseHead(Buffer.from(text)), /no HTTP/, JSON.stringify(text));
  assert.throws(
    () => parseResponseHead(Buffer.from(`HTTP/1.1 200 OK\r\n${'x'.repeat(65_537)}`)),
    /more than 65536 bytes of headers/,
  );
});

test('what the status says of the body', () => {
  const of = (text: string) => parseResponseHead(Buffer.from(`${text}\r\n\r\n`))!;
  assert.equal(bodyLength(of('HTTP/1.1 204 No Content')), 0);
  assert.equal(bodyLength(of('HTTP/1.1 304')), 0);
  assert.equal(bodyLength(of('HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5')), 5);
  assert.equal(bodyLength(of('HTTP/1.1 200 OK')), 'until the end');
  assert.equal(
    bodyLength(of('HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\ncontent-length: 5')),
    'chunked',
  );
  assert.throws(
    () => bodyLength(of('HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked')),
    /transfer-encoding/,
  );
  assert.throws(
    () => bodyLength(of('HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2')),
    /content-length/,
  );
  assert.equal(isKeptAlive(of('HTTP/1.0 200 OK\r\nconnection: keep-alive')), true);
  assert.equal(isKeptAlive(of('HTTP/1.0 200 OK')), false);
  assert.equal(isKeptAlive(of('HTTP/1.1 200 OK\r\nconnection: x, close')), false);
});
