import type { LayerProgress } from '../cache/ref.ts';
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

/** Downloads and unpacking of layers as sub-statuses (FEATURES D36). */
export function layerProgress(progress: VertexProgress): LayerProgress {
  return {
    download: (digest, current, total, done) =>
      progress.status(digest, {
        name: done ? 'done' : 'downloading',
        current,
        total,
        ...(done ? { done } : {}),
      }),
    extract: (digest, done) => progress.status(`extracting ${digest}`, done ? { done } : {}),
    combine: (action, id, done) => progress.status(id, { name: action, done }),
  };
}
