import { invalidArgument } from '../base/errors.ts';
import type { JobOptions } from '../solver/job.ts';

/** Options of a build with its limit: of our own client, and as a build argument for clients that know no other. */
const OPTIONS = ['max-parallelism', 'build-arg:BUILDKIT_MAX_PARALLELISM'];

/** What a build asks of itself: no more than so many steps at once. @throws when that is no number */
export function limitsOf(attrs: Readonly<Record<string, string>>): Pick<JobOptions, 'maxParallelism'> {
  for (const option of OPTIONS) {
    const text = attrs[option] ?? '';
    if (text === '' || text === '0') continue;
    const maxParallelism = /^\d{1,9}$/.test(text) ? Number(text) : 0;
    if (maxParallelism < 1)
      throw invalidArgument(`invalid ${option}: ${JSON.stringify(text)} is no number of steps`);
    return { maxParallelism };
  }
  return {};
}
