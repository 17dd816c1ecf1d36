import { archiveJobs } from '../archive/jobs.ts';
import { contentHashJobs } from '../cache/contenthash.ts';
import { manifestJobs } from '../explain/manifest.ts';
import { exporterJobs } from '../exporter/jobs.ts';
import { fileActionJobs } from '../ops/filecopy.ts';
import type { Jobs } from '../pool/types.ts';
import { storeJobs } from '../store/jobs.ts';

/** Everything that worker threads do for the daemon. */
export const daemonJobs = {
  ...archiveJobs,
  ...contentHashJobs,
  ...fileActionJobs,
  ...exporterJobs,
  ...manifestJobs,
  ...storeJobs,
} satisfies Jobs;
export type DaemonJobs = typeof daemonJobs;
