import { BuildError, Code } from '../base/errors.ts';
import type { RecordRow } from './records.ts';

/**
 * Something a record needs is lost from the disk and nothing here can bring it back. The record is removed by then:
 * whoever looks its result up again finds none, and makes it.
 */
export class DamagedRecordError extends BuildError {
  readonly recordId: string;

  constructor(recordId: string, what: string, cause?: unknown) {
    super(`${what}: the record ${recordId} is dropped`, { code: Code.dataLoss, cause });
    this.recordId = recordId;
  }
}

/** Whether damage of the store made `error`, however often it was wrapped: trying again makes what was lost. */
export function isStoreDamage(error: unknown): boolean {
  for (let one = error; one instanceof Error; one = one.cause)
    if (one instanceof DamagedRecordError) return true;
  return false;
}

const KINDS = new Set<unknown>(['layer', 'merge', 'diff']);
const DIGEST = /^[a-z0-9]+:[0-9a-f]+$/;

/** What is wrong with a row by itself; undefined when nothing is. */
export function rowProblem(row: RecordRow): string | undefined {
  if (!KINDS.has(row.kind)) return `its kind is ${JSON.stringify(row.kind)}`;
  if (typeof row.snapshot !== 'string' || row.snapshot === '') return 'it names no snapshot';
  if (row.parent === row.id || row.equal_mutable === row.id) return 'it stands on itself';
  for (const digest of [row.blob, row.diff_id, row.chain_id, row.blob_chain_id])
    if (digest !== null && !DIGEST.test(digest)) return `${JSON.stringify(digest)} is no digest`;
  if (row.blob !== null && row.diff_id === null) return 'its blob has no diff ID';
  if (!isJson(row.annotations, (v) => typeof v === 'object' && !Array.isArray(v)))
    return 'its annotations are unreadable';
  if (!isJson(row.urls, Array.isArray)) return 'its urls are unreadable';
  if (!isJson(row.image_refs, Array.isArray)) return 'its image names are unreadable';
  return undefined;
}

function isJson(text: string, fits: (value: unknown) => boolean): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return value !== null && fits(value);
  } catch {
    return false;
  }
}
