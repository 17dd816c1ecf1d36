// Feeds the readers of Dockerfiles and ignore files with random input, and says what breaks them.
//   node scripts/fuzz-dockerfile.ts [--seconds 60] [--seed 1] [--from 0]
// A case that takes too long, an exception that is no answer to the user, or memory that grows ends with status 1;
// `--seed S --from N --seconds 0` repeats case N.
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { makeCase, runCase } from '../src/testing/fuzz/dockerfile.ts';

/** A case that takes this long is a finding. */
const MAX_CASE_MS = 5_000;
/** Without a word for this long, a case never ends. */
const HANG_MS = 60_000;
const CASES_PER_REPORT = 20_000;
/** Of live objects, between the first report after the warm-up and any later one. */
const MAX_GROWTH_BYTES = 64 << 20;
const WARM_UP_REPORTS = 3;

interface Settings {
  readonly seconds: number;
  readonly seed: number;
  readonly from: number;
}
interface Report {
  readonly cases: number;
  readonly accepted: number;
  readonly heapBytes: number;
  readonly slowest: { readonly index: number; readonly ms: number };
  readonly finding?: string;
  readonly done?: boolean;
}

if (isMainThread) await watch(settingsOf(process.argv.slice(2)));
else await work(workerData as { settings: Settings; progress: SharedArrayBuffer });

function settingsOf(args: string[]): Settings {
  const string = { type: 'string' } as const;
  const { values } = parseArgs({ args, options: { seconds: string, seed: string, from: string } });
  return {
    seconds: Number(values.seconds ?? 60),
    seed: Number(values.seed ?? 1),
    from: Number(values.from ?? 0),
  };
}

/** The main thread only looks whether the worker is still alive. */
async function watch(settings: Settings): Promise<void> {
  console.log(`seed ${settings.seed}, ${settings.seconds} s`);
  const progress = new SharedArrayBuffer(8);
  const current = new Int32Array(progress);
  const worker = new Worker(new URL(import.meta.url), { workerData: { settings, progress } });
  let seen = -1;
  let since = Date.now();
  const timer = setInterval(() => {
    const now = Atomics.load(current, 0);
    if (now !== seen) {
      seen = now;
      since = Date.now();
    } else if (Date.now() - since > HANG_MS) fail(`case ${now} of seed ${settings.seed} does not end`);
  }, 1_000);
  const heaps: number[] = [];
  worker.on('message', (report: Report) => {
    heaps.push(report.heapBytes);
    const { slowest } = report;
    console.log(
      `${report.cases} cases, ${report.accepted} accepted, ${Math.round(report.heapBytes / 1024)} KiB live, ` +
        `slowest ${slowest.ms.toFixed(0)} ms (case ${slowest.index})`,
    );
    if (report.finding !== undefined) fail(report.finding);
    const base = heaps[WARM_UP_REPORTS];
    if (base !== undefined && report.heapBytes - base > MAX_GROWTH_BYTES) fail('memory grows');
    if (report.done) clearInterval(timer);
  });
  worker.on('error', (error: Error) => fail(`the worker ended: ${error.stack}`));
}

function fail(finding: string): never {
  console.error(finding);
  process.exit(1);
}

async function work({
  settings,
  progress,
}: {
  settings: Settings;
  progress: SharedArrayBuffer;
}): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const current = new Int32Array(progress);
  const end = Date.now() + settings.seconds * 1000;
  let accepted = 0;
  let slowest = { index: settings.from, ms: 0 };
  const report = (cases: number, more: Partial<Report> = {}): void => {
    collect();
    const heapBytes = process.memoryUsage().heapUsed;
    parentPort?.postMessage({ cases, accepted, heapBytes, slowest, ...more } satisfies Report);
  };
  let index = settings.from;
  do {
    Atomics.store(current, 0, index);
    const input = makeCase(settings.seed, index);
    const before = process.threadCpuUsage();
    const show = (): string =>
      `case ${index} of seed ${settings.seed}, ${input.kind}: ${JSON.stringify(input).slice(0, 4000)}`;
    try {
      if ((await runCase(input)).accepted) accepted++;
    } catch (error) {
      const { stack, cause } = error as Error;
      return report(index - settings.from, {
        finding: `${show()}\n${stack}\n${String((cause as Error)?.stack)}`,
        done: true,
      });
    }
    const { user, system } = process.threadCpuUsage(before);
    const ms = (user + system) / 1000;
    if (ms > slowest.ms) slowest = { index, ms };
    if (ms > MAX_CASE_MS)
      return report(index, { finding: `${show()}\ntakes ${Math.round(ms)} ms`, done: true });
    index++;
    if ((index - settings.from) % CASES_PER_REPORT === 0) report(index - settings.from);
  } while (Date.now() < end);
  report(index - settings.from, { done: true });
}
