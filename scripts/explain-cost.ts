// What keeping explanations costs: processor time of two daemons, one with [explain] switched on and one off, that
// build the same in turn with everything in the cache. Needs what the integration tests need.
//   node scripts/explain-cost.ts [builds, default 200] [repetitions, default 3]
import { readFileSync } from 'node:fs';
import { Daemon, Registry, TempDir } from '../test/integration/harness.ts';

const [builds = 200, repetitions = 3] = process.argv.slice(2).map(Number);
const WARM_UP = 20;
const TICK_MS = 10;
const FILES = 100;

const context: Record<string, string> = {
  Dockerfile: [
    'FROM busybox AS build\nARG VERSION=1\nENV MODE=release\nWORKDIR /src\nCOPY package.json ./',
    'RUN cat package.json >/deps\nCOPY src ./src\nRUN cat src/* >/out; echo $VERSION >>/out\nRUN --mount=target=/c ls /c >>/out',
    'FROM busybox\nRUN mkdir /app\nCOPY --from=build /out /app/\nCOPY --from=build /deps /app/\nRUN true\nCMD ["sh"]',
  ].join('\n'),
  'package.json': '{}',
};
for (let i = 0; i < FILES; i++) context[`src/file${i}.ts`] = `export const n = ${i};\n`;

/** Of the daemon and its threads, ms. */
function processorMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** Processor time per build, on and off. */
async function measure(registry: Registry, dir: TempDir): Promise<{ on: number; off: number }> {
  await using on = await Daemon.start({ config: registry.config });
  await using off = await Daemon.start({ config: `${registry.config}[explain]\nenabled = false\n` });
  const round = async (i: number): Promise<void> => {
    for (const daemon of i % 2 === 0 ? [on, off] : [off, on]) await daemon.build(dir.path);
  };
  for (let i = 0; i < WARM_UP; i++) await round(i);
  const start = [on, off].map(({ pid }) => processorMs(pid));
  for (let i = 0; i < builds; i++) await round(i);
  const spent = [on, off].map(({ pid }, i) => (processorMs(pid) - start[i]!) / builds);
  return { on: spent[0]!, off: spent[1]! };
}

await using registry = await Registry.start();
using dir = new TempDir();
await registry.pushBusybox();
dir.write(context);
const ratios: number[] = [];
for (let i = 0; i < repetitions; i++) {
  const { on, off } = await measure(registry, dir);
  ratios.push(on / off);
  console.log(
    `on ${on.toFixed(2)} ms, off ${off.toFixed(2)} ms of processor time a build: ${(on / off).toFixed(3)}`,
  );
}
const median = ratios.sort((a, b) => a - b)[Math.floor(ratios.length / 2)]!;
console.log(`${builds} cached builds in turn, ${repetitions} times: on/off = ${median.toFixed(3)} (median)`);
