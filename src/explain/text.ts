import type { BuildExplanation, Cause, StepExplanation } from './types.ts';

/** Characters of an old or new value, and steps of a chain, that are shown. */
const MAX_VALUE = 120;
const MAX_CHAIN = 20;
const SHORT_DIGEST = 12;

/** An explanation for people: the steps that ran, each with what has changed. Ends with a newline. */
export function explanationText({ steps, comparedWith }: BuildExplanation): string {
  const ran = steps.filter(({ cached, causes }) => !cached && causes[0]?.kind !== 'uncacheable');
  if (ran.length === 0) return 'All steps were in the cache.\n';
  if (comparedWith === 0 && ran.every(({ causes }) => causes[0]?.kind === 'no-record'))
    return `All ${ran.length} steps ran: nothing is kept of an earlier build like this one.\n`;
  const since = comparedWith === 0 ? '' : `, compared with the build of ${timeText(comparedWith)}`;
  const byVertex = new Map(steps.map((step) => [step.vertex as string, step]));
  const lines = [`Why steps ran${since}:`];
  for (const { name, causes } of ran) {
    lines.push(`  ${name.replace(/(@sha256:[0-9a-f]{12})[0-9a-f]{52}/, '$1')}`);
    for (const cause of causes) lines.push(`    - ${withReason(cause, byVertex)}`);
  }
  return `${lines.join('\n')}\n`;
}

/** A cause as a sentence without its end. */
export function causeText(cause: Cause): string {
  const { kind, subject, old, new: now } = cause;
  const place = shortPlace(cause.place);
  switch (kind) {
    case 'file':
      return fileText(cause);
    case 'more-files':
      return `${subject} more files of ${place} changed`;
    case 'build-arg':
      return changeText(`build argument ${subject}`, old, now);
    case 'env':
      return changeText(`variable ${subject}`, old, now);
    case 'command':
      return changeText('the command', old, now);
    case 'mount':
      return changeText(`the mount ${subject}`, old, now);
    case 'option':
      return changeText(`the option ${JSON.stringify(subject)}`, old, now);
    case 'platform':
      return changeText('the platform', old, now);
    case 'base':
      return changeText(/^sha\d+:/.test(now) ? `base image ${subject}` : 'the base image', old, now);
    case 'source':
      return changeText(`the source ${subject}`, old, now);
    case 'parent':
      return `${shortName(subject)} is another one`;
    case 'damaged':
      return `the record of its result could not be used (${now})`;
    default:
      return PLAIN[kind];
  }
}

const PLAIN = {
  'no-record': 'nothing is kept of an earlier run of it',
  pruned: 'its result was in the cache once and has been pruned',
  unfinished: 'its earlier run failed or was cancelled',
  'ignore-cache': 'the build was asked to ignore the cache',
  uncacheable: 'what a client sends is never kept',
  unknown: 'nothing that differs was found',
} as const;

/** A step by its number, where it has one. */
function shortName(name: string): string {
  return /^\[[^\]]*\d+\/\d+\]/.exec(name)?.[0] ?? `step ${shown(name)}`;
}

function shortPlace(place: string): string {
  return place.startsWith('[') ? shortName(place) : shown(place);
}

/** Follows a cause to the first one that is no other step. */
function withReason(first: Cause, steps: ReadonlyMap<string, StepExplanation>): string {
  const parts = [first.kind === 'parent' ? '' : causeText(first)];
  let cause: Cause = first;
  while (cause.vertex !== '' && parts.length < MAX_CHAIN) {
    const step = steps.get(cause.vertex);
    const next: Cause | undefined = step?.causes[0];
    if (!step || !next) break;
    parts.push(`${shortName(step.name)} ${step.cached ? 'is another one' : 'ran'}`);
    if (next.kind !== 'parent') parts.push(causeText(next));
    cause = next;
  }
  const told = parts.filter((part) => part !== '');
  return told.length === 0 ? causeText(first) : told.join(' because ');
}

function fileText({ subject, change, old, new: now, place: from }: Cause): string {
  const place = shortPlace(from);
  const file = `file ${subject} in ${place}`;
  switch (change) {
    case 'content':
      return `${file} changed`;
    case 'mode':
    case 'owner':
      return `the ${change} of ${file} changed: ${old} -> ${now}`;
    case 'type':
      return `${file} is a ${now} now and was a ${old}`;
    case 'link':
      return `the symlink ${subject} in ${place} changed: ${old} -> ${now}`;
    case 'attributes':
      return `the extended attributes of ${file} changed`;
    case 'added':
      return `${file} is new`;
    case 'removed':
      return `${file} is gone`;
    case 'renamed':
      return `file ${old} in ${place} was renamed to ${now}`;
    case 'below':
      return `files below ${subject} in ${place} changed`;
    default:
      return `files of ${place} changed (which ones is not known)`;
  }
}

function changeText(what: string, old: string, now: string): string {
  if (old === '') return `${what} is new: ${shown(now)}`;
  if (now === '') return `${what} is gone, it was ${shown(old)}`;
  return `${what} changed: ${shown(old)} -> ${shown(now)}`;
}

function shown(value: string): string {
  const digest = /^(sha\d+:)([0-9a-f]{32,})$/.exec(value);
  if (digest) return `${digest[1]}${digest[2]?.slice(0, SHORT_DIGEST)}`;
  const line = value.replace(/\s*\n\s*/g, ' ⏎ ');
  return line.length > MAX_VALUE ? `${line.slice(0, MAX_VALUE)}…` : line;
}

function timeText(ms: number): string {
  return new Date(ms)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, ' UTC');
}
