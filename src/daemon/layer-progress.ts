import type { LayerProgress } from '../cache/ref.ts';
import type { VertexProgress } from '../solver/types.ts';

const INTERVAL_MS = 100;

/** Downloads and unpacking of layers as sub-statuses of a step (FEATURES D36). */
export function layerProgress(progress: VertexProgress): LayerProgress {
  const shown = new Map<string, number>();
  return {
    download: (digest, current, total, done) => {
      const now = Date.now();
      if (!done && now - (shown.get(digest) ?? 0) < INTERVAL_MS) return;
      shown.set(digest, now);
      progress.status(digest, { name: done ? 'done' : 'downloading', current, total, done });
    },
    extract: (digest, done) => progress.status(`extracting ${digest}`, { name: 'extract', done }),
    combine: (action, id, done) => progress.status(id, { name: action, done }),
  };
}
