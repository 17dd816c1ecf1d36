import { workerData } from 'node:worker_threads';
import { serveJobs } from '../pool/serve.ts';
import { lowerThreadPriority } from '../sys/priority.ts';
import { daemonJobs } from './jobs.ts';

const data = workerData as { readonly background?: boolean } | undefined;
if (data?.background) lowerThreadPriority();
// The program of every worker thread.
serveJobs(daemonJobs);
