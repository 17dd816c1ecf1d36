import { readFileSync } from 'node:fs';
import { timeFromDate } from '../oci/time.ts';

/** First distance of samples, milliseconds; doubled each time that so many have come. */
const INTERVAL_MS = 2000;
const MAX_SAMPLES = 20;
/** Of /proc/stat's times. */
const TICKS_PER_SECOND = 100;

/** A JSON value, fields in the order in which provenance has them. */
export type SystemSample = Readonly<Record<string, unknown>>;

interface Taken {
  readonly at: number;
  readonly sample: SystemSample;
}

/** What the whole machine did while a build ran. */
export class SystemUsage implements Disposable {
  readonly #read: (at: Date) => SystemSample | undefined;
  readonly #started = Date.now();
  readonly #taken: Taken[] = [];
  readonly #timer: NodeJS.Timeout;
  #intervalMs = INTERVAL_MS;

  constructor(read: (at: Date) => SystemSample | undefined = readSystem) {
    this.#read = read;
    this.#timer = setInterval(() => this.#tick(), INTERVAL_MS).unref();
  }

  /** Samples at about equal distances, the last one taken now; none where the system tells nothing. */
  samples(): SystemSample[] {
    const last = this.#read(new Date());
    return [...this.#spread().map(({ sample }) => sample), ...(last ? [last] : [])];
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const at = Date.now();
    if (at - (this.#taken.at(-1)?.at ?? 0) < this.#intervalMs) return;
    const sample = this.#read(new Date(at));
    if (!sample) {
      clearInterval(this.#timer);
      return;
    }
    this.#taken.push({ at, sample });
    if (at - this.#started >= this.#intervalMs * MAX_SAMPLES) this.#thin();
  }

  #thin(): void {
    this.#intervalMs *= 2;
    this.#taken.splice(0, Number.POSITIVE_INFINITY, ...this.#spread());
  }

  #spread(): Taken[] {
    let before = Number.NEGATIVE_INFINITY;
    return this.#taken.filter(({ at }) => {
      if (at - before < this.#intervalMs) return false;
      before = at;
      return true;
    });
  }
}

/** The machine now; undefined where /proc does not tell. */
export function readSystem(at: Date): SystemSample | undefined {
  const stat = read('/proc/stat');
  const memory = read('/proc/meminfo');
  if (stat === undefined || memory === undefined) return undefined;
  const pressures = ['cpu', 'memory', 'io'].map((name) => {
    const text = read(`/proc/pressure/${name}`);
    return [`${name}Pressure`, text === undefined ? undefined : pressureOf(text)] as const;
  });
  return {
    timestamp: timeFromDate(at).text,
    cpuStat: cpuOf(stat),
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

const CPU_FIELDS = 'user nice system idle iowait irq softirq steal guest guestNice'.split(' ');

function cpuOf(stat: string): Record<string, number> {
  const [, ...ticks] = (/^cpu .*$/m.exec(stat)?.[0] ?? '').split(/\s+/);
  return Object.fromEntries(
    CPU_FIELDS.map((name, i) => {
      const seconds = Number(ticks[i] ?? 0) / TICKS_PER_SECOND;
      return [name, Math.round(seconds * 1000) / 1000];
    }),
  );
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

function pressureOf(text: string): Record<string, Record<string, number>> {
  const lines = text.trim().split('\n');
  return Object.fromEntries(
    lines.map((line) => {
      const [name = '', ...pairs] = line.split(' ');
      const values = pairs.map((pair) => pair.split('=') as [string, string]);
      return [name, Object.fromEntries(values.map(([key, value]) => [key, Number(value)]))];
    }),
  );
}
