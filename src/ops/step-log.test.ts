import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StepLog } from './step-log.ts';

function recorder(limits: { maxBytes: number; maxBytesPerSecond: number }) {
  const out: string[] = [];
  let clock = 0;
  const progress = {
    log: (stream: 1 | 2, data: Uint8Array) => out.push(`${stream}:${Buffer.from(data).toString()}`),
    status: () => {},
    warn: () => {},
  };
  const log = new StepLog(progress, { limits, now: () => clock });
  return { out, log, advance: (ms: number) => (clock += ms) };
}
const text = (s: string) => new TextEncoder().encode(s);

test('passes output through below the limits', () => {
  const { out, log } = recorder({ maxBytes: -1, maxBytesPerSecond: -1 });
  log.stdout(text('hello'));
  log.stderr(text('oops'));
  log.flushTail();
  assert.deepEqual(out, ['1:hello', '2:oops']);
});

test('cuts the chunk that crosses the size limit, once, and keeps the tail for failures', () => {
  const { out, log } = recorder({ maxBytes: 4, maxBytesPerSecond: -1 });
  log.stdout(text('abcdef'));
  log.stdout(text('ghi'));
  assert.deepEqual(out, ['1:abcd\n[output clipped, log limit 4B reached]\n']);
  log.flushTail();
  assert.equal(out[1], '1:abcdefghi');
});

test('the speed limit opens again as time passes; streams are limited on their own', () => {
  const { out, log, advance } = recorder({ maxBytes: 2 << 20, maxBytesPerSecond: 2048 });
  log.stdout(new Uint8Array(3000));
  assert.match(out[0] ?? '', /log limit 2KiB\/s reached/);
  log.stderr(text('fine'));
  assert.equal(out[1], '2:fine');
  advance(3000);
  log.stdout(text('again'));
  assert.equal(out[2], '1:again');
});
