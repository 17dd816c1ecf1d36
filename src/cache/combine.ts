import { invalidArgument } from '../base/errors.ts';
import type { CacheCore } from './core.ts';
import type { LiveRecord } from './live-record.ts';
import { insertRecord, newRow } from './new-record.ts';
import type { RecordKind } from './records.ts';
import type { NewRecordOptions } from './ref.ts';

/** Layers of a merge: merges of merges would double them each time. */
const MAX_MERGED_LAYERS = 10_000;

/** A record of all layers of `parts` (FEATURES F6); `hold` it before anything is awaited. */
export function mergeRecords(
  core: CacheCore,
  parts: readonly LiveRecord[],
  options: NewRecordOptions,
): LiveRecord {
  const [first, second] = parts;
  if (!first) throw invalidArgument('merge of nothing');
  if (!second) return first;
  const layers = parts.reduce((sum, part) => sum + part.layerCount, 0);
  if (layers > MAX_MERGED_LAYERS)
    throw invalidArgument(`merge of ${layers} layers: more than ${MAX_MERGED_LAYERS}`);
  for (const part of parts) core.finalize(part);
  const flat = parts.flatMap((part) => (part.kind === 'merge' ? part.parents : [part]));
  return addRecord(core, 'merge', flat, options);
}

/** A record of what leads from `lower` to `upper`, or to nothing (FEATURES F7). */
export function diffRecords(
  core: CacheCore,
  lower: LiveRecord,
  upper: LiveRecord | undefined,
  options: NewRecordOptions,
): LiveRecord {
  core.finalize(lower);
  if (!upper) return addRecord(core, 'diff', [lower], options);
  core.finalize(upper);
  const steps = layersBetween(lower, upper);
  if (!steps) return addRecord(core, 'diff', [lower, upper], options);
  // The layers that stand between the two are used as they are, whatever they undo of each other.
  return core.parts.table.db.transaction(() => {
    const parts = steps.map((layer) => {
      const { parent } = layer;
      if (!parent) return layer;
      const description = `diff ${JSON.stringify(parent.id)} -> ${JSON.stringify(layer.id)}`;
      return addRecord(core, 'diff', [parent, layer], { description });
    });
    return addRecord(core, 'merge', parts, options);
  });
}

/** The layers of `upper` on top of those of `lower`; undefined when it has not all of those, or only one more. */
function layersBetween(lower: LiveRecord, upper: LiveRecord): LiveRecord[] | undefined {
  const below = lower.chain();
  const all = upper.chain();
  if (all.length <= below.length + 1) return undefined;
  return below.every((layer, i) => layer === all[i]) ? all.slice(below.length) : undefined;
}

function addRecord(
  core: CacheCore,
  kind: RecordKind,
  sources: readonly LiveRecord[],
  options: NewRecordOptions,
): LiveRecord {
  const row = newRow(options, { kind, blob_only: 1 });
  const ids = sources.map(({ id }) => id);
  insertRecord(core.parts, row, options, ids);
  return core.create(row, sources);
}
