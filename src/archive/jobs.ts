import type { Jobs } from '../pool/types.ts';
import { applyLayer } from './apply.ts';
import { diffLayer } from './diff.ts';
import { mergeTrees } from './merge.ts';
import { newestFile } from './newest.ts';
import { convertBlob, packTree } from './pack.ts';
import { settleLayer } from './settle.ts';

/** Work of this room for the worker threads. */
export const archiveJobs = {
  applyLayer,
  settleLayer,
  diffLayer,
  packTree,
  convertBlob,
  mergeTrees,
  newestFile,
} satisfies Jobs;
export type ArchiveJobs = typeof archiveJobs;
