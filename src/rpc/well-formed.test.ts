import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SolveRequest } from '../pb/control.ts';
import { walkFields } from './well-formed.ts';

test('every message of ours is well formed, and no cut of it in the middle of a field', () => {
  const whole = SolveRequest.encode(
    SolveRequest.fromPartial({ Ref: 'x'.repeat(200), Frontend: 'f', FrontendAttrs: { a: 'b' } }),
  ).finish();
  walkFields(whole);
  walkFields(new Uint8Array(0));
  const ends = [...whole.keys()].filter((size) => {
    try {
      walkFields(whole.subarray(0, size));
      return true;
    } catch (error) {
      assert.ok(error instanceof RangeError);
      return false;
    }
  });
  assert.deepEqual(ends, [0, 203, 206], 'between fields only');
});

test('what is no field is refused, although the generated decoder takes it', () => {
  for (const bad of [
    [0x00],
    [0x04],
    [0x0c, 1],
    [0x0b, 0x0c],
    [0x0e],
    [0x0f],
    [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1],
    [0x09, 1, 2],
    [0x0d, 1],
    Array<number>(11).fill(0x80),
    [0x80, 0x80, 0x80, 0x80, 0x10, 0],
  ])
    assert.throws(() => walkFields(Uint8Array.from(bad)), RangeError, bad.join(' '));
  assert.equal(SolveRequest.decode(Uint8Array.of(0x04)).Ref, '');
  walkFields(Uint8Array.of(0x08, 1, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0x22, 1, 7));
});
