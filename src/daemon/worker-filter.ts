import { parseFilters } from '../cache/filter.ts';
import type { WorkerRecord } from '../pb/worker.ts';

/** Workers that one of the filters matches (FEATURES B32): fields are `id` and `labels."name"`. */
export function matchWorkers(workers: readonly WorkerRecord[], filters: readonly string[]): WorkerRecord[] {
  const matches = parseFilters(filters);
  return workers.filter(({ ID, Labels }) =>
    matches(([field, ...path]) => {
      if (field === 'id') return ID === '' ? undefined : ID;
      const label = path.join('.');
      return field === 'labels' && Object.hasOwn(Labels, label) ? Labels[label] : undefined;
    }),
  );
}
