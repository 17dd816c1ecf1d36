// Worker: builds 10,000 steps, cold and cached, and posts the processor time of each in milliseconds.
import { parentPort } from 'node:worker_threads';
import { type Step, step, world } from './solver.ts';

const COUNT = 10_000;

function chain(): Step {
  let top = step({ name: 'c0' });
  for (let i = 1; i < COUNT; i++) top = step({ name: `c${i}`, inputs: [top] });
  return top;
}

function fan(): Step {
  return step({ inputs: Array.from({ length: COUNT }, (_, i) => step({ name: `f${i}` })) });
}

const times: Record<string, number> = {};
for (const [name, graph] of [
  ['chain', chain()],
  ['fan', fan()],
] as const) {
  const { build } = world();
  for (const run of ['cold', 'cached']) {
    const before = process.threadCpuUsage();
    await build(graph);
    const { user, system } = process.threadCpuUsage(before);
    times[`${name} ${run}`] = Math.round((user + system) / 1000);
  }
}
parentPort?.postMessage(times);
