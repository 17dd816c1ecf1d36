import type { VertexProgress } from '../solver/types.ts';

/** Shows `id` as a sub-status for as long as `work` takes. */
export async function oneOff<T>(progress: VertexProgress, id: string, work: () => Promise<T>): Promise<T> {
  progress.status(id, {});
  try {
    return await work();
  } finally {
    progress.status(id, { done: true });
  }
}
