import { parseDuration } from '../../base/duration.ts';
import { BuildError, invalidArgument } from '../../base/errors.ts';
import { type FieldLookup, parseFilters } from '../../cache/filter.ts';
import { csvFields } from '../../client/csv.ts';
import { parseGitUrl } from '../../giturl/git-url.ts';
import type { BuildHistoryRecord } from '../../pb/control.ts';
import { nanosOf } from '../time-wire.ts';

export type RecordFilter = (record: BuildHistoryRecord) => boolean;

type Compare = (value: bigint, limit: bigint) => boolean;

/** Longer ones first. */
const COMPARISONS: readonly (readonly [string, Compare])[] = [
  ['>=', (value, limit) => value >= limit],
  ['<=', (value, limit) => value <= limit],
  ['>', (value, limit) => value > limit],
  ['<', (value, limit) => value < limit],
];
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:\d\d)$/;
const NANOS = 1_000_000_000n;

/**
 * Filters of build records (FEATURES B35): each text is comma-separated fields, all of which must match; one
 * text that matches is enough. @throws invalidArgument for what is not understood
 */
export function recordFilter(texts: readonly string[]): RecordFilter {
  if (texts.length === 0) return () => true;
  const all = texts.map(parseText);
  return (record) => all.some((fields) => fields.every((matches) => matches(record)));
}

function parseText(text: string): RecordFilter[] {
  const filters: RecordFilter[] = [];
  const others: string[] = [];
  for (const field of csvFields(text)) {
    const filter = timeFilter(field);
    if (filter) filters.push(filter);
    else others.push(field);
  }
  try {
    const filter = parseFilters([others.join(',')]);
    return [...filters, (record) => filter(fieldOf(record))];
  } catch (error) {
    throw BuildError.wrap(error, `failed to parse history filters ${text}`);
  }
}

function timeFilter(field: string): RecordFilter | undefined {
  const found = COMPARISONS.find(([sign]) => field.includes(sign));
  if (!found) return undefined;
  const [sign, compare] = found;
  const at = field.indexOf(sign);
  const value = field.slice(at + sign.length);
  switch (field.slice(0, at)) {
    case 'startedAt': {
      const limit = seconds(value);
      return ({ CreatedAt }) => compare(nanosOf(CreatedAt) / NANOS, limit);
    }
    case 'completedAt': {
      const limit = seconds(value);
      return ({ CompletedAt }) => compare(CompletedAt ? nanosOf(CompletedAt) / NANOS : 0n, limit);
    }
    case 'duration': {
      const limit = parseDuration(value);
      if (limit === undefined) throw invalidArgument(`invalid duration ${value}`);
      return ({ CreatedAt, CompletedAt }) =>
        compare(CompletedAt ? nanosOf(CompletedAt) - nanosOf(CreatedAt) : 0n, limit);
    }
    default:
      return undefined;
  }
}

/** A point in time, or how long ago; Unix seconds. */
function seconds(text: string): bigint {
  const ago = parseDuration(text);
  if (ago !== undefined) return (BigInt(Date.now()) * 1_000_000n - ago) / NANOS;
  const time = RFC3339.test(text) ? Date.parse(text.replace(',', '.')) : Number.NaN;
  if (Number.isNaN(time)) throw invalidArgument(`invalid time ${text}`);
  return BigInt(Math.floor(time / 1000));
}

function fieldOf(record: BuildHistoryRecord): FieldLookup {
  return ([name]) => {
    switch (name) {
      case 'ref':
        return record.Ref === '' ? undefined : record.Ref;
      case 'status':
        return statusOf(record);
      case 'repository':
        return repositoryOf(record.FrontendAttrs);
      default:
        return undefined;
    }
  };
}

function statusOf({ CompletedAt, error }: BuildHistoryRecord): string {
  if (!CompletedAt) return 'running';
  if (!error) return 'completed';
  return error.message.includes('context canceled') ? 'canceled' : 'error';
}

function repositoryOf(attrs: Readonly<Record<string, string>>): string | undefined {
  const source = attrs['vcs:source'];
  if (source !== undefined) return source;
  try {
    return attrs.context === undefined ? undefined : parseGitUrl(attrs.context).remote;
  } catch {
    return undefined; // a context that is no repository
  }
}
