import { SpacedSamples } from '../base/spaced-samples.ts';
import { timeFromDate } from '../oci/time.ts';
import { cgroupStats, type Stats } from './cgroup-stats.ts';
import { cpuTimes } from './system-cpu.ts';

const INTERVAL_MS = 2000;
const SAMPLES_PER_DOUBLING = 10;

/** Samples what the cgroup of one step uses while it runs (FEATURES G25). */
export class StepUsage implements Disposable {
  readonly #samples: SpacedSamples<Stats>;
  readonly #cpu = cpuTimes();

  /** @param network counters of the step's own network, where it has one that is counted */
  constructor(dir: string, network: (() => Stats | undefined) | undefined) {
    const read = (at: Date): Stats | undefined => {
      const stats = cgroupStats(dir);
      const net = stats && network?.();
      return (
        stats && { timestamp: timeFromDate(at).text, ...defined(stats), ...(net ? { netStat: net } : {}) }
      );
    };
    this.#samples = new SpacedSamples(read, { intervalMs: INTERVAL_MS, perDoubling: SAMPLES_PER_DOUBLING });
  }

  /** `{samples, sysCPUStat}`, the last sample of now: while the cgroup is still there. */
  read(): Stats {
    const samples = this.#samples.samples();
    const now = cpuTimes();
    const before = this.#cpu;
    const sysCPUStat =
      now && before
        ? Object.fromEntries(
            Object.entries(now).map(([name, seconds]) => [
              name,
              Math.round((seconds - (before[name] ?? 0)) * 1000) / 1000,
            ]),
          )
        : undefined;
    return { ...(samples.length > 0 ? { samples } : {}), ...(sysCPUStat ? { sysCPUStat } : {}) };
  }

  [Symbol.dispose](): void {
    this.#samples[Symbol.dispose]();
  }
}

function defined(stats: Stats): Stats {
  return Object.fromEntries(Object.entries(stats).filter(([, value]) => value !== undefined));
}
