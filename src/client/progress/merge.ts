import type { SolveStatus } from '../../solver/status-types.ts';

/**
 * The progress of several builds as one, for one display: the names of steps begin with the name of their build,
 * `[build 1/2] RUN …`. What one of them throws ends all.
 */
export async function* mergeProgress(
  builds: Readonly<Record<string, AsyncIterable<SolveStatus>>>,
): AsyncGenerator<SolveStatus> {
  const sources = Object.entries(builds).map(([name, progress]) => ({
    name,
    iterator: progress[Symbol.asyncIterator](),
  }));
  const next = async (source: (typeof sources)[number]) => ({
    source,
    result: await source.iterator.next(),
  });
  const pending = new Map(sources.map((source) => [source, next(source)]));
  try {
    while (pending.size > 0) {
      const { source, result } = await Promise.race(pending.values());
      if (result.done) {
        pending.delete(source);
        continue;
      }
      pending.set(source, next(source));
      yield named(source.name, result.value);
    }
  } finally {
    // Nobody waits for what the others would still give: they end with their next message.
    for (const [{ iterator }, promise] of pending) {
      promise.catch(() => {});
      iterator.return?.()?.catch(() => {});
    }
  }
}

function named(build: string, status: SolveStatus): SolveStatus {
  const name = (text: string): string =>
    text.startsWith('[') ? `[${build} ${text.slice(1)}` : `[${build}] ${text}`;
  return { ...status, vertexes: status.vertexes.map((vertex) => ({ ...vertex, name: name(vertex.name) })) };
}
