import type { Digest } from '../../base/digest.ts';
import type { BlobInfo } from '../content.ts';

export interface BlobRow {
  digest: Digest;
  size: number;
  created_at: number;
  updated_at: number;
  labels: string;
}

export function blobInfo(row: BlobRow): BlobInfo {
  return {
    digest: row.digest,
    size: row.size,
    createdAt: new Date(row.created_at),
    updatedAt: new Date(row.updated_at),
    labels: JSON.parse(row.labels) as Record<string, string>,
  };
}
