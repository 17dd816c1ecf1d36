import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import { spawn } from '../sys/spawn.ts';
import { isCgroupV2 } from './cgroup.ts';
import { cgroupStats } from './cgroup-stats.ts';
import { pairCounters } from './interface-counters.ts';
import { StepUsage } from './step-usage.ts';

const PRESSURE =
  'some avg10=0.50 avg60=1.00 avg300=2.25 total=300\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n';
const PARSED = {
  some: { avg10: 0.5, avg60: 1, avg300: 2.25, total: 300 },
  full: { avg10: 0, avg60: 0, avg300: 0, total: 7 },
};

function fake(files: Readonly<Record<string, string>>) {
  const dir = mkdtempSync(join(tmpdir(), 'cgroup-'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  return { dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true }) };
}

test('a cgroup in the words of provenance', () => {
  using cgroup = fake({
    'cpu.stat': 'usage_usec 5\nuser_usec 3\nsystem_usec 2\nnice_usec 0\nnr_periods 4\nthrottled_usec 6\n',
    'cpu.pressure': PRESSURE,
    'memory.stat': 'anon 10\nfile 20\nkernel_stack 1\npagetables 2\nunknown 9\npgfault 30\n',
    'memory.events': 'low 0\nhigh 0\nmax 2\noom 1\noom_kill 0\n',
    'memory.peak': '99\n',
    'memory.swap.current': '0\n',
    'io.stat': '8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 rbytes=10 wbytes=20 rios=30\n',
    'io.pressure': PRESSURE.split('\n')[0] ?? '',
    'pids.current': '3\n',
  });
  const stats = cgroupStats(cgroup.dir);
  const expected = {
    cpuStat: {
      usageNanos: 5000,
      userNanos: 3000,
      systemNanos: 2000,
      nrPeriods: 4,
      throttledNanos: 6000,
      pressure: PARSED,
    },
    memoryStat: {
      swapBytes: 0,
      anon: 10,
      file: 20,
      kernelStack: 1,
      pageTables: 2,
      pgfault: 30,
      peak: 99,
      maxEvents: 2,
      oomEvents: 1,
    },
    ioStat: {
      readBytes: 11,
      writeBytes: 22,
      discardBytes: 0,
      readIOs: 33,
      writeIOs: 4,
      discardIOs: 0,
      pressure: { some: PARSED.some, full: null },
    },
    pidsStat: { current: 3 },
  };
  assert.equal(JSON.stringify(stats), JSON.stringify(expected));
});

test('without controllers there is the processor time alone; of what has gone, nothing', () => {
  using cgroup = fake({ 'cpu.stat': 'usage_usec 1\n' });
  assert.deepEqual(JSON.parse(JSON.stringify(cgroupStats(cgroup.dir))), {
    cpuStat: { usageNanos: 1000 },
    pidsStat: {},
  });
  assert.equal(cgroupStats(join(cgroup.dir, 'none')), undefined);
});

test('a step is sampled every two seconds and at its end', () => {
  using cgroup = fake({ 'cpu.stat': 'usage_usec 1\n' });
  mock.timers.enable({ apis: ['setInterval', 'Date'], now: 1_000_000 });
  try {
    using usage = new StepUsage(cgroup.dir, () => ({ rxBytes: 5 }));
    for (let i = 0; i < 5; i++) mock.timers.tick(1000);
    const { samples, sysCPUStat } = usage.read() as {
      samples: Record<string, unknown>[];
      sysCPUStat: object;
    };
    assert.deepEqual(
      samples.map(({ timestamp }) => timestamp),
      ['1970-01-01T00:16:42Z', '1970-01-01T00:16:44Z', '1970-01-01T00:16:45Z'],
    );
    assert.deepEqual(Object.keys(samples[0] ?? {}), ['timestamp', 'cpuStat', 'pidsStat', 'netStat']);
    assert.ok(Object.keys(sysCPUStat).includes('iowait'));
    rmSync(join(cgroup.dir, 'cpu.stat'));
    assert.equal((usage.read().samples as unknown[]).length, 2);
  } finally {
    mock.timers.reset();
  }
});

test('a real cgroup of the unified hierarchy', async (t) => {
  const unified = isCgroupV2() ? '/sys/fs/cgroup' : '/sys/fs/cgroup/unified';
  if (!existsSync(join(unified, 'cgroup.controllers'))) return t.skip('no unified hierarchy');
  const dir = join(unified, `bkt-test-usage-${process.pid}`);
  mkdirSync(dir);
  t.after(() => rmdirSync(dir));
  const script = `echo $$ > ${dir}/cgroup.procs; i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done`;
  assert.equal((await spawn({ file: '/bin/sh', args: ['sh', '-c', script], env: {} }).exited).code, 0);
  const { cpuStat } = cgroupStats(dir) as { cpuStat: { usageNanos: number } };
  assert.ok(cpuStat.usageNanos > 1_000_000, JSON.stringify(cpuStat));
});

test('what passes through the pair of interfaces is counted from the start', () => {
  using net = fake({});
  const statistics = join(net.dir, 'veth1/statistics');
  mkdirSync(statistics, { recursive: true });
  const names = ['bytes', 'packets', 'errors', 'dropped'].flatMap((name) => [`rx_${name}`, `tx_${name}`]);
  const set = (value: number): void => {
    for (const name of names) writeFileSync(join(statistics, name), `${name === 'rx_errors' ? 1 : value}\n`);
  };
  set(10);
  const interfaces = [{ name: 'bridge0' }, { name: 'veth1' }, { name: 'eth0', sandbox: '/x' }];
  const counters = pairCounters([undefined, { interfaces }], net.dir);
  set(17);
  assert.deepEqual(counters?.(), {
    rxBytes: 7,
    rxPackets: 7,
    rxDropped: 7,
    txBytes: 7,
    txPackets: 7,
    txErrors: 7,
    txDropped: 7,
  });
  rmSync(statistics, { recursive: true });
  assert.equal(counters?.(), undefined);
  assert.equal(pairCounters([{ interfaces: [...interfaces, { name: 'veth2' }] }], net.dir), undefined);
});
