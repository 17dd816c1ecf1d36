import type { Activity } from '../solver/activities.ts';
import type { SlotState } from '../solver/slots.ts';
import { type EdgeState, isUnderWay, type JobState } from '../solver/state.ts';

/** Where the state of the daemon's builds is read. */
export interface StateSources {
  readonly edges: () => readonly EdgeState[];
  readonly jobs: () => readonly JobState[];
  readonly slots: () => SlotState;
}

/** What every running build is at and what it waits for. */
export interface StateDump {
  /** Unix milliseconds. */
  readonly time: number;
  readonly builds: readonly BuildState[];
  /** Places for running steps; `waiting` in the order of its turns. */
  readonly slots: Omit<SlotState, 'limit'> & { readonly limit: number | null };
}

export interface BuildState extends JobState {
  /** Those under way. */
  readonly edges: readonly Omit<EdgeState, 'jobs'>[];
}

export function dumpState({ edges, jobs, slots }: StateSources, now = Date.now()): StateDump {
  const underWay = edges().filter(isUnderWay);
  const { limit, running, waiting } = slots();
  return {
    time: now,
    builds: jobs().map((job) => ({
      ...job,
      edges: underWay.filter((edge) => edge.jobs.includes(job.id)).map(({ jobs: _jobs, ...edge }) => edge),
    })),
    slots: { limit: Number.isFinite(limit) ? limit : null, running, waiting },
  };
}

/** The dump for people, a line each. */
export function dumpLines({ time, builds, slots }: StateDump): string[] {
  const ago = (since: number): string => `${((time - since) / 1000).toFixed(1)} s`;
  const places = slots.limit === null ? '' : ` in ${slots.limit} places`;
  return [
    ...builds.flatMap((build) => [
      `build ${build.id}: last progress ${ago(build.lastProgress)} ago`,
      ...build.doing.map(({ what, since }) => `  ${what}: for ${ago(since)}`),
      ...build.edges.map((edge) => `  ${edgeLine(edge, ago)}`),
    ]),
    `${slots.running.length} steps run${places}, ${slots.waiting.length} wait`,
    ...slots.running.map(({ name, job }) => `  runs for ${job}: ${name}`),
    ...slots.waiting.map(
      ({ name, jobs, since }, i) =>
        `  waits as number ${i + 1} for ${jobs.join(', ')}, ${ago(since)}: ${name}`,
    ),
  ];
}

/** One edge: its step, its question, and what that waits for. */
export function edgeLine(
  { name, output, stage, since, doing, waitsFor }: Omit<EdgeState, 'jobs'>,
  ago: (since: number) => string,
): string {
  const activity = ({ what, since: start }: Activity): string => `${what} for ${ago(start)}`;
  const at = [
    `${stage}${since === undefined ? '' : ` for ${ago(since)}`}`,
    ...doing.map(activity),
    ...(waitsFor.length > 0 ? [`waits for ${waitsFor.join(', ')}`] : []),
  ];
  return `${name}${output === 0 ? '' : ` [output ${output}]`}: ${at.join('; ')}`;
}
