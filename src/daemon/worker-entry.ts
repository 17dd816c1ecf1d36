import { serveJobs } from '../pool/serve.ts';
import { daemonJobs } from './jobs.ts';

// The program of every worker thread.
serveJobs(daemonJobs);
