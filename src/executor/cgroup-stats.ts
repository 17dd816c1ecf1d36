import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A JSON object whose fields are in the order in which provenance has them. */
export type Stats = Readonly<Record<string, unknown>>;

/** What a cgroup of the unified hierarchy has used so far (FEATURES G25); undefined once it is gone. */
export function cgroupStats(dir: string): Stats | undefined {
  const cpu = read(dir, 'cpu.stat');
  // Every cgroup has it, with or without controllers.
  if (cpu === undefined) return undefined;
  return { cpuStat: cpuOf(dir, cpu), memoryStat: memoryOf(dir), ioStat: ioOf(dir), pidsStat: pidsOf(dir) };
}

const CPU: readonly Field[] = [
  ['usageNanos', 'usage_usec', 1000],
  ['userNanos', 'user_usec', 1000],
  ['systemNanos', 'system_usec', 1000],
  ['nrPeriods', 'nr_periods'],
  ['nrThrottled', 'nr_throttled'],
  ['throttledNanos', 'throttled_usec', 1000],
];

function cpuOf(dir: string, text: string): Stats {
  return { ...fieldsOf(text, CPU), ...pressure(dir, 'cpu.pressure') };
}

const MEMORY: readonly Field[] = [
  ['anon', 'anon'],
  ['file', 'file'],
  ['kernelStack', 'kernel_stack'],
  ['pageTables', 'pagetables'],
  ['sock', 'sock'],
  ['shmem', 'shmem'],
  ['fileMapped', 'file_mapped'],
  ['fileDirty', 'file_dirty'],
  ['fileWriteback', 'file_writeback'],
  ['slab', 'slab'],
  ['pgscan', 'pgscan'],
  ['pgsteal', 'pgsteal'],
  ['pgfault', 'pgfault'],
  ['pgmajfault', 'pgmajfault'],
];
const EVENTS: readonly Field[] = [
  ['lowEvents', 'low'],
  ['highEvents', 'high'],
  ['maxEvents', 'max'],
  ['oomEvents', 'oom'],
  ['oomKillEvents', 'oom_kill'],
];

function memoryOf(dir: string): Stats | undefined {
  const text = read(dir, 'memory.stat');
  if (text === undefined) return undefined;
  const events = Object.entries(fieldsOf(read(dir, 'memory.events') ?? '', EVENTS));
  return {
    ...number(dir, 'memory.swap.current', 'swapBytes'),
    ...fieldsOf(text, MEMORY),
    ...number(dir, 'memory.peak', 'peak'),
    ...Object.fromEntries(events.filter(([, count]) => count !== 0)),
    ...pressure(dir, 'memory.pressure'),
  };
}

const IO: readonly (readonly [name: string, key: string])[] = [
  ['readBytes', 'rbytes'],
  ['writeBytes', 'wbytes'],
  ['discardBytes', 'dbytes'],
  ['readIOs', 'rios'],
  ['writeIOs', 'wios'],
  ['discardIOs', 'dios'],
];

/** Of all devices together. */
function ioOf(dir: string): Stats | undefined {
  const text = read(dir, 'io.stat');
  if (text === undefined) return undefined;
  const sums = IO.flatMap(([name, key]) => {
    const values = [...text.matchAll(new RegExp(` ${key}=(\\d+)`, 'g'))].map(([, value]) => Number(value));
    return values.length > 0 ? [[name, values.reduce((sum, value) => sum + value)] as const] : [];
  });
  return { ...Object.fromEntries(sums), ...pressure(dir, 'io.pressure') };
}

const pidsOf = (dir: string): Stats => number(dir, 'pids.current', 'current');

/** Name in JSON and in the file, and what one is in the other. */
type Field = readonly [name: string, key: string, factor?: number];

function fieldsOf(text: string, fields: readonly Field[]): Record<string, number> {
  const found = new Map(text.split('\n').map((line) => line.split(' ') as [string, string | undefined]));
  return Object.fromEntries(
    fields.flatMap(([name, key, factor = 1]) => {
      const value = found.get(key);
      return value === undefined ? [] : [[name, Number(value) * factor]];
    }),
  );
}

function number(dir: string, file: string, name: string): Stats {
  const text = read(dir, file)?.trim();
  return text && /^\d+$/.test(text) ? { [name]: Number(text) } : {};
}

function pressure(dir: string, file: string): Stats {
  const text = read(dir, file);
  return text === undefined ? {} : { pressure: { some: null, full: null, ...parsePressure(text) } };
}

/** Reads a file of the kernel's pressure figures: `{some, full}`, those that it has. */
export function parsePressure(text: string): Record<string, Record<string, number>> {
  const lines = text.trim().split('\n').filter(Boolean);
  return Object.fromEntries(
    lines.map((line) => {
      const [name = '', ...pairs] = line.split(' ');
      const values = pairs.map((pair) => pair.split('=') as [string, string]);
      return [name, Object.fromEntries(values.map(([key, value]) => [key, Number(value)]))];
    }),
  );
}

function read(dir: string, name: string): string | undefined {
  try {
    return readFileSync(join(dir, name), 'utf8');
  } catch {
    return undefined; // a controller or a kernel without it, or the cgroup has gone
  }
}
