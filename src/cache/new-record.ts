import { randomBytes } from 'node:crypto';
import type { CacheParts } from './core.ts';
import type { RecordRow } from './records.ts';
import type { NewRecordOptions } from './ref.ts';

/** Values of a new record. */
export function newRow(options: NewRecordOptions, own: Partial<RecordRow>): RecordRow {
  const id = randomBytes(16).toString('hex');
  return {
    id,
    kind: 'layer',
    mutable: 0,
    parent: null,
    snapshot: id,
    blob_only: 0,
    equal_mutable: null,
    type: options.type ?? 'regular',
    description: options.description ?? '',
    retain: options.retain ? 1 : 0,
    created_at: (options.createdAt ?? new Date()).getTime(),
    size: null,
    last_used_at: null,
    usage_count: 0,
    diff_id: null,
    chain_id: null,
    blob_chain_id: null,
    blob: null,
    media_type: null,
    blob_size: null,
    annotations: '{}',
    urls: '[]',
    image_refs: JSON.stringify(options.imageRef === undefined ? [] : [options.imageRef]),
    ...own,
  };
}

/** Row, values and lease at once: the lease is there before the first byte. */
export function insertRecord(
  { table, leases }: CacheParts,
  row: RecordRow,
  options: NewRecordOptions,
  sources: readonly string[] = [],
): void {
  table.db.transaction(() => {
    table.insert(row, sources);
    for (const [key, value] of Object.entries(options.metadata ?? {})) table.setValue(row.id, key, value);
    leases.create({ id: row.id, flat: true });
    if (row.equal_mutable === null) leases.add(row.id, { kind: 'snapshot', id: row.snapshot });
    if (row.blob !== null) leases.add(row.id, { kind: 'content', id: row.blob });
  });
}
