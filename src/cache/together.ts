/**
 * Runs works side by side. The first failure aborts the others, and is thrown when all have ended: nothing goes on
 * behind the caller's back.
 */
export async function together<T>(
  works: readonly ((signal: AbortSignal) => Promise<T>)[],
  signal?: AbortSignal,
): Promise<T[]> {
  signal?.throwIfAborted();
  const stop = new AbortController();
  const shared = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const failures: unknown[] = [];
  const results = await Promise.allSettled(
    works.map(async (work) => {
      try {
        return await work(shared);
      } catch (error) {
        failures.push(error);
        stop.abort(error);
        throw error;
      }
    }),
  );
  if (failures.length > 0) throw failures[0];
  return results.map((result) => (result as PromiseFulfilledResult<Awaited<T>>).value);
}
