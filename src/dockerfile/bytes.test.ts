import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeText, encodeText } from './bytes.ts';

test('bytes that are no characters survive', () => {
  const cases: readonly (readonly [bytes: readonly number[], text: string])[] = [
    [[], ''],
    [[0x61, 0xff, 0x62], 'a\udcffb'],
    [[0xef, 0xbb, 0xbf, 0x61, 0xe9], '\ufeffa\udce9'],
    [[0xe2, 0x82], '\udce2\udc82'],
    [[0xe2, 0x82, 0xac, 0x80], '\u20ac\udc80'],
    [[0xed, 0xa0, 0x80], '\udced\udca0\udc80'],
    [[0xc0, 0x80, 0xf4, 0x90, 0x80, 0x80], '\udcc0\udc80\udcf4\udc90\udc80\udc80'],
    [[0xf0, 0x9f, 0x98, 0x80, 0xff], '\u{1f600}\udcff'],
  ];
  for (const [bytes, text] of cases) {
    assert.equal(decodeText(Uint8Array.from(bytes)), text);
    assert.deepEqual([...encodeText(text)], bytes);
  }
});
