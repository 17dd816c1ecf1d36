// Faults for the simulation to find: each takes away something that the solver must not be without.

export interface Mutant {
  readonly name: string;
  /** One that finds it, as of the time of writing: saves time. */
  readonly seed: number;
  /** In `src/solver/`. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'no turn of grace between two waits',
    seed: 113,
    file: 'graph.ts',
    from: 'setImmediate(() => {\n        for (const vertex of graph) vertex.abortUnwanted();\n      });',
    to: 'for (const vertex of graph) vertex.abortUnwanted();',
  },
  {
    name: 'what nobody wants runs on',
    seed: 1,
    file: 'shared-vertex.ts',
    from: 'before?.abort(new Unwanted());',
    to: '',
  },
  {
    name: 'an abort is remembered as the outcome',
    seed: 3,
    file: 'memo.ts',
    from: 'if (!isFailure) this.#run = undefined;',
    to: '',
  },
  {
    name: 'an aborted run is not started again for those who still want it',
    seed: 32,
    file: 'memo.ts',
    from: 'isFailure || !this.#wanted()',
    to: 'true',
  },
  {
    name: 'twins do not find each other',
    seed: 1,
    file: 'twins.ts',
    from: 'const found = preferred(vertex, known);',
    to: 'const found = undefined;',
  },
  {
    name: 'twins by content do not find each other',
    seed: 18,
    file: 'twins.ts',
    from: 'if (found) return found;\n    this.#running.set',
    to: 'this.#running.set',
  },
  {
    name: 'one that is gone stands for others',
    seed: 11,
    file: 'twins.ts',
    from: 'for (const place of this.#places.get(vertex) ?? []) {',
    to: 'for (const place of [] as string[]) {',
  },
  {
    name: 'twins may wait for each other',
    seed: 159,
    file: 'solver.ts',
    from: 'if (waitsFor(vertex, by))',
    to: 'if (false as boolean)',
  },
  {
    name: 'a lender is not kept for the one that waits for it',
    seed: 1,
    file: 'graph.ts',
    from: 'for (const vertex of graph) vertex.want();',
    to: 'for (const vertex of graph.slice(0, 0)) vertex.want();',
  },
  {
    name: 'a borrowed claim is never given back',
    seed: 23,
    file: 'shared-vertex.ts',
    from: 'for (const loan of this.#borrowed.keys()) loan[Symbol.dispose]();',
    to: '',
  },
  {
    name: 'a result that comes too late is kept',
    seed: 15,
    file: 'shared-vertex.ts',
    from: 'await result.release();\n      throw new Unwanted();',
    to: 'throw new Unwanted();',
  },
  {
    name: 'a handle is passed on without a clone',
    seed: 1,
    file: 'shared-vertex.ts',
    from: '(result.clone() as R)',
    to: 'result',
  },
  {
    name: 'results of a closed job are not released',
    seed: 1,
    file: 'shared-vertex.ts',
    from: 'await Promise.all(held.map((result) => result.release()));',
    to: '',
  },
  {
    name: 'keys by content are not linked',
    seed: 9,
    file: 'edge.ts',
    from: 'return [...byHistory, { from: rootKey(content, CONTENT_OUTPUT), link: byContent }];',
    to: 'return byHistory;',
  },
  {
    name: 'look-ups do not wait for imported caches',
    seed: 3,
    file: 'sources.ts',
    from: 'return this.#loading.size === 0 ? undefined : Promise.all(this.#loading.values());',
    to: 'return undefined;',
  },
  {
    name: 'ways that lead to an imported record are not taken over',
    seed: 1,
    file: 'sources.ts',
    from: 'this.link(from, link, key);\n        seen.add(from);',
    to: '',
  },
  {
    name: 'a place is not given back',
    seed: 1,
    file: 'slots.ts',
    from: 'this.#running.delete(slot);',
    to: '',
  },
  {
    name: 'one that gives up stays in the queue',
    seed: 29,
    file: 'slots.ts',
    from: 'this.#waiting = this.#waiting.filter((other) => other !== waiter);',
    to: '',
  },
  {
    name: 'limits of a job do not count',
    seed: 2,
    file: 'slots.ts',
    from: 'if (count >= (maxParallelism ?? Number.POSITIVE_INFINITY)) continue;',
    to: '',
  },
  {
    name: 'a broken record fails the build',
    seed: 1,
    file: 'edge.ts',
    from: 'if (error instanceof Unwanted || context.signal.aborted) throw error;',
    to: 'throw error;',
  },
  {
    name: 'steps that go on for others are shown as running for ever',
    seed: 6,
    file: 'progress.ts',
    from: 'if (!this.#jobs.delete(job) || !this.#isUnderWay) return;',
    to: 'this.#jobs.delete(job);\n    return;',
  },
];

/** The source with the fault in it. @throws when the place is not there any more */
export function mutated(source: string, { name, file, from, to }: Mutant): string {
  if (source.split(from).length !== 2) throw new Error(`mutant "${name}": ${file} has no single ${from}`);
  return source.replace(from, () => to);
}
