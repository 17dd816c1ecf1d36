import { readFileSync } from 'node:fs';
import { SpacedSamples } from '../base/spaced-samples.ts';
import { parsePressure } from '../executor/cgroup-stats.ts';
import { parseCpuTimes } from '../executor/system-cpu.ts';
import { timeFromDate } from '../oci/time.ts';

/** First distance of samples, milliseconds; doubled each time that so many have come. */
const INTERVAL_MS = 2000;
const MAX_SAMPLES = 20;

/** A JSON value, fields in the order in which provenance has them. */
export type SystemSample = Readonly<Record<string, unknown>>;

/** What the whole machine did while a build ran; no samples where the system tells nothing. */
export class SystemUsage extends SpacedSamples<SystemSample> {
  constructor(read: (at: Date) => SystemSample | undefined = readSystem) {
    super(read, { intervalMs: INTERVAL_MS, perDoubling: MAX_SAMPLES });
  }
}

/** The machine now; undefined where /proc does not tell. */
export function readSystem(at: Date): SystemSample | undefined {
  const stat = read('/proc/stat');
  const memory = read('/proc/meminfo');
  if (stat === undefined || memory === undefined) return undefined;
  const pressures = ['cpu', 'memory', 'io'].map((name) => {
    const text = read(`/proc/pressure/${name}`);
    return [`${name}Pressure`, text === undefined ? undefined : parsePressure(text)] as const;
  });
  return {
    timestamp: timeFromDate(at).text,
    cpuStat: parseCpuTimes(stat),
    procStat: {
      contextSwitches: count(stat, 'ctxt'),
      processCreated: count(stat, 'processes'),
      processesRunning: count(stat, 'procs_running'),
    },
    memoryStat: memoryOf(memory),
    ...Object.fromEntries(pressures.filter(([, value]) => value !== undefined)),
  };
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // a system without it
  }
}

function count(stat: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(stat)?.[1] ?? 0);
}

const MEMORY_FIELDS: readonly (readonly [name: string, field: string])[] = [
  ['total', 'MemTotal'],
  ['free', 'MemFree'],
  ['available', 'MemAvailable'],
  ['buffers', 'Buffers'],
  ['cached', 'Cached'],
  ['active', 'Active'],
  ['inactive', 'Inactive'],
  ['swap', 'SwapTotal'],
  ['dirty', 'Dirty'],
  ['writeback', 'Writeback'],
  ['slab', 'Slab'],
];

/** Kibibytes, as the kernel counts them. */
function memoryOf(text: string): Record<string, number | null> {
  return Object.fromEntries(
    MEMORY_FIELDS.map(([name, field]) => {
      const value = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(text)?.[1];
      return [name, value === undefined ? null : Number(value)];
    }),
  );
}
