import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ErrorCode, ProtocolError } from './frames.ts';
import { HeaderDecoder, HeaderEncoder } from './hpack.ts';
import { huffmanDecode } from './huffman.ts';

const LIMITS = { maxBytes: 1 << 20, maxPairs: 10_000 };
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
const pairs = (list: readonly string[]): string[] =>
  Array.from({ length: list.length / 2 }, (_, i) => `${list[2 * i]}: ${list[2 * i + 1]}`);

/** RFC 7541, appendix C.4: three requests of one connection, with coded strings and a growing table. */
const REQUESTS: readonly (readonly [string, readonly string[]])[] = [
  [
    '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
    [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com'],
  ],
  [
    '8286 84be 5886 a8eb 1064 9cbf',
    [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com', 'cache-control: no-cache'],
  ],
  [
    '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
    [
      ':method: GET',
      ':scheme: https',
      ':path: /index.html',
      ':authority: www.example.com',
      'custom-key: custom-value',
    ],
  ],
];

test('requests of the specification, with coded strings and entries of the table', () => {
  const decoder = new HeaderDecoder(LIMITS);
  for (const [block, expected] of REQUESTS) assert.deepEqual(pairs(decoder.decode(hex(block))), expected);
});

test('literals that are not kept, and names in full', () => {
  const decoder = new HeaderDecoder(LIMITS);
  // Appendix C.2: with indexing, without, never, indexed.
  const block =
    '400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572 040c 2f73 616d 706c 652f 7061 7468 1008 7061 7373 776f 7264 0673 6563 7265 7482';
  assert.deepEqual(pairs(decoder.decode(hex(block))), [
    'custom-key: custom-header',
    ':path: /sample/path',
    'password: secret',
    ':method: GET',
  ]);
  assert.deepEqual(pairs(decoder.decode(hex('be'))), ['custom-key: custom-header']);
});

test('the table forgets its oldest entries, and all of them for one that is too large', () => {
  const decoder = new HeaderDecoder(LIMITS);
  const literal = (name: string, value: string): Buffer =>
    Buffer.concat([
      Buffer.from([0x40, name.length]),
      Buffer.from(name),
      hex('7f'),
      integer(value.length - 127),
      Buffer.from(value),
    ]);
  decoder.decode(literal('a', 'x'.repeat(2000)));
  decoder.decode(literal('b', 'y'.repeat(2000)));
  assert.equal(decoder.decode(hex('be'))[0], 'b');
  assert.equal(decoder.decode(hex('bf'))[0], 'a');
  decoder.decode(literal('c', 'z'.repeat(200)));
  assert.equal(decoder.decode(hex('bf'))[0], 'b');
  assert.throws(() => decoder.decode(hex('c0')), ProtocolError);
  decoder.decode(literal('d', 'w'.repeat(5000)));
  assert.throws(() => decoder.decode(hex('be')), ProtocolError);
});

function integer(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest & 127) | 128);
  }
}

test('what the encoder writes, the decoder reads', () => {
  const decoder = new HeaderDecoder(LIMITS);
  const encoder = new HeaderEncoder();
  const list = [
    [':method', 'POST', ':scheme', 'http', ':path', '/moby.buildkit.v1.Control/Solve', ':status', '200'],
    ['content-type', 'application/grpc', 'x-empty', '', 'x-long', 'v'.repeat(70_000), 'te', 'trailers'],
    Array.from({ length: 2000 }, (_, i) => ['exclude-patterns', `pattern/${i}/\xe9`]).flat(),
  ];
  for (const headers of list) assert.deepEqual(decoder.decode(encoder.encode(headers)), headers);
});

test('blocks that are none are refused', () => {
  const refused: readonly (readonly [string, string])[] = [
    ['80', 'index 0'],
    ['ff ff ff ff ff 7f', 'an index that is too large'],
    ['c5', 'an index behind the table'],
    ['40', 'a literal without a name'],
    ['40 05 61', 'a name cut short'],
    ['00 01 61 85 ff ff ff ff ff', 'a code that ends nothing'],
    ['00 01 61 81 00', 'padding that is no padding'],
    ['82 3f e1 1f', 'a size of the table behind a header'],
    ['3f e2 1f', 'a size above what is offered'],
  ];
  for (const [block, what] of refused)
    assert.throws(() => new HeaderDecoder(LIMITS).decode(hex(block)), ProtocolError, what);
});

test('limits of bytes and of pairs hold', () => {
  const long = new HeaderEncoder().encode(['a', 'x'.repeat(2000)]);
  const calm = (error: unknown): boolean =>
    error instanceof ProtocolError && error.code === ErrorCode.enhanceYourCalm;
  assert.throws(() => new HeaderDecoder({ maxBytes: 1000, maxPairs: 10 }).decode(long), calm);
  const many = Buffer.alloc(11, 0x82);
  assert.throws(() => new HeaderDecoder({ maxBytes: 1e6, maxPairs: 10 }).decode(many), calm);
});

test('random bytes are decoded or refused, and nothing else happens', () => {
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >> 8) % below;
  };
  const known = REQUESTS.map(([block]) => hex(block));
  let refused = 0;
  for (let round = 0; round < 20_000; round++) {
    const block =
      round % 2
        ? Buffer.from(known[random(3)] as Buffer)
        : Buffer.from(Array.from({ length: random(40) }, () => random(256)));
    if (block.length > 0) block[random(block.length)] = random(256);
    try {
      new HeaderDecoder(LIMITS).decode(block);
    } catch (error) {
      assert.ok(error instanceof ProtocolError, String(error));
      refused++;
    }
    try {
      huffmanDecode(block);
    } catch (error) {
      assert.ok(error instanceof ProtocolError, String(error));
    }
  }
  assert.ok(refused > 1000 && refused < 20_000, `${refused} refused`);
});
