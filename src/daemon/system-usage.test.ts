import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { readSystem, type SystemSample, SystemUsage } from './system-usage.ts';

test('what the machine does, as the kernel tells it', () => {
  const sample = readSystem(new Date('2020-01-02T03:04:05.600Z')) as Record<string, Record<string, number>>;
  assert.deepEqual(Object.keys(sample).slice(0, 4), ['timestamp', 'cpuStat', 'procStat', 'memoryStat']);
  assert.equal(sample.timestamp, '2020-01-02T03:04:05.6Z');
  assert.ok((sample.cpuStat?.user ?? 0) > 0);
  assert.ok((sample.procStat?.processCreated ?? 0) > 0);
  assert.ok((sample.memoryStat?.total ?? 0) > (sample.memoryStat?.free ?? 0));
});

test('a long build has few samples, at equal distances, and one of its end', () => {
  mock.timers.enable({ apis: ['setInterval', 'Date'], now: 1_000_000 });
  const pass = (seconds: number): void => {
    for (let i = 0; i < seconds; i++) mock.timers.tick(1000);
  };
  try {
    const read = (at: Date): SystemSample => ({ at: at.getTime() });
    using usage = new SystemUsage(read);
    pass(5);
    assert.deepEqual(usage.samples(), [{ at: 1_002_000 }, { at: 1_004_000 }, { at: 1_005_000 }]);
    pass(3600);
    const times = usage.samples().map((sample) => Number(sample.at));
    assert.ok(times.length > 5 && times.length <= 41, `${times.length} samples`);
    const gaps = new Set(times.slice(1, -1).map((at, i) => at - times[i]!));
    assert.equal(Math.min(...gaps) >= 64_000, true);
  } finally {
    mock.timers.reset();
  }
});

test('where the kernel tells nothing there are no samples', () => {
  using usage = new SystemUsage(() => undefined);
  assert.deepEqual(usage.samples(), []);
});
