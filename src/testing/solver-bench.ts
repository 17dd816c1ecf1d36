// Worker: times builds of 10,000 steps, cold and cached, and posts them in milliseconds.
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
    const started = performance.now();
    await build(graph);
    times[`${name} ${run}`] = Math.round(performance.now() - started);
  }
}
parentPort?.postMessage(times);
