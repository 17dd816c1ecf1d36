import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Digest } from '../../base/digest.ts';
import { type CheckOptions, type Finding, ROWS_PER_TURN } from '../../fsck/finding.ts';
import type { BuildHistoryRecord, BuildResultInfo, Descriptor } from '../../pb/control.ts';
import type { ContentStore } from '../../store/content.ts';
import type { LeaseStore } from '../../store/lease.ts';
import { type RecordTable, recordLease } from './record-table.ts';

export interface HistoryCheckParts {
  readonly table: RecordTable;
  readonly content: Pick<ContentStore, 'info'>;
  readonly leases: LeaseStore;
  /** Logs of running builds lie here. */
  readonly dir: string;
  readonly discard: (path: string) => void;
  /** The build runs, or its record is deleted and still being read. */
  readonly isBusy: (ref: string) => boolean;
  readonly change: (record: BuildHistoryRecord) => void;
  readonly forget: (ref: string) => void;
}

/** Records of builds: what they say, the blobs they name, what keeps these. Builds that run are left alone. */
export async function* checkHistory(
  parts: HistoryCheckParts,
  { signal }: CheckOptions,
): AsyncGenerator<Finding> {
  let looked = 0;
  for (const ref of parts.table.refs()) {
    if (++looked % ROWS_PER_TURN === 0) await nextTurn();
    signal.throwIfAborted();
    if (!parts.isBusy(ref)) yield* checkRecord(parts, ref);
  }
  for (const { id } of parts.leases.list()) {
    const ref = refOf(id);
    if (ref === undefined || parts.table.has(ref) || parts.isBusy(ref) || !parts.leases.has(id)) continue;
    const repair = (): void => parts.leases.delete(id);
    yield { kind: 'lease', id, problem: `its build record ${ref} is gone`, leftover: true, repair };
  }
  yield* checkLogs(parts);
}

function refOf(lease: string): string | undefined {
  const prefix = recordLease('');
  return lease.startsWith(prefix) ? lease.slice(prefix.length) : undefined;
}

function* checkRecord(parts: HistoryCheckParts, ref: string): Generator<Finding> {
  const { table, content, leases } = parts;
  const record = table.get(ref);
  if (!record) {
    // Between two looks it may have been deleted.
    const problem = table.isRunning(ref) ? 'it was never closed' : 'it is unreadable';
    if (table.has(ref)) yield { kind: 'build', id: ref, problem, repair: () => parts.forget(ref) };
    return;
  }
  const missing = (digest: string): boolean => !content.info(digest as Digest);
  for (const [what, { digest }] of documents(record))
    if (missing(digest)) {
      const repair = (): void => {
        const now = table.get(ref);
        if (!now || !missing(digest)) return;
        parts.change(without(now, digest));
        leases.drop(recordLease(ref), resource(digest));
      };
      yield { kind: 'build', id: ref, problem: `its ${what} ${digest} is gone`, repair };
    }
  const lease = recordLease(ref);
  if (!leases.has(lease)) {
    const repair = (): void => {
      if (!leases.has(lease)) leases.create({ id: lease, flat: true });
      for (const [, { digest }] of documents(record)) leases.add(lease, resource(digest));
    };
    yield { kind: 'build', id: ref, problem: 'no lease keeps what it needs', repair };
    return;
  }
  const held = new Set(leases.resources(lease).map(({ id }) => id));
  for (const [what, { digest }] of documents(record)) {
    const problem = `its lease does not keep its ${what} ${digest}`;
    const repair = (): void => leases.add(lease, resource(digest));
    if (!held.delete(digest) && !missing(digest)) yield { kind: 'build', id: ref, problem, repair };
  }
  for (const id of held) {
    const problem = `a document of its result, ${id}, is gone`;
    const repair = (): void => leases.drop(lease, resource(id));
    if (missing(id)) yield { kind: 'build', id: ref, problem, repair };
  }
}

const resource = (digest: string) => ({ kind: 'content', id: digest as Digest }) as const;

/** Blobs that a record names. */
function documents(record: BuildHistoryRecord): [what: string, descriptor: Descriptor][] {
  const { logs, trace, externalError, Result, Results } = record;
  const results = [...(Result ? [Result] : []), ...Object.values(Results)];
  const all: [string, Descriptor | undefined][] = [
    ['log', logs],
    ['trace', trace],
    ['error', externalError],
    ...results.flatMap(({ ResultDeprecated, Attestations, Results: images }): typeof all => [
      ['result', ResultDeprecated],
      ...[...images.values()].map((image): (typeof all)[number] => ['result', image]),
      ...Attestations.map((one): (typeof all)[number] => ['attachment', one]),
    ]),
  ];
  const seen = new Set<string>();
  return all.filter((one): one is [string, Descriptor] => {
    const digest = one[1]?.digest;
    return digest !== undefined && seen.size < seen.add(digest).size;
  });
}

function without(record: BuildHistoryRecord, digest: string): BuildHistoryRecord {
  const unless = (one: Descriptor | undefined) => (one?.digest === digest ? undefined : one);
  const info = (result: BuildResultInfo): BuildResultInfo => ({
    ResultDeprecated: unless(result.ResultDeprecated),
    Attestations: result.Attestations.filter(unless),
    Results: new Map([...result.Results].filter(([, image]) => unless(image))),
  });
  return {
    ...record,
    logs: unless(record.logs),
    trace: unless(record.trace),
    externalError: unless(record.externalError),
    Result: record.Result && info(record.Result),
    Results: Object.fromEntries(Object.entries(record.Results).map(([key, one]) => [key, info(one)])),
  };
}

/** Logs that no running build writes. */
function* checkLogs({ table, dir, discard }: HistoryCheckParts): Generator<Finding> {
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    if (table.hasLog(name) || !existsSync(path)) continue;
    const repair = (): void => discard(path);
    yield { kind: 'file', id: `history/${name}`, problem: 'nothing knows it', leftover: true, repair };
  }
}
