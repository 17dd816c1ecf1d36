import type { BuildsByRecord } from '../cache/holders.ts';
import type { ImmutableRef, UsageRecord } from '../cache/ref.ts';
import type * as pb from '../pb/diskusage.ts';
import { DiskUsageDefinition } from '../pb/diskusage.ts';
import { FailedStep } from '../ops/failed-step.ts';
import { type RegisteredService, service } from '../rpc/server.ts';
import type { ServerCall } from '../rpc/types.ts';
import type { Solver } from '../solver/solver.ts';
import { usageToWire } from './usage-wire.ts';
import type { Worker } from './worker.ts';

/** What the service needs of the daemon. */
export interface DiskUsageParts {
  readonly worker: Pick<Worker, 'refs' | 'store'>;
  readonly solver: Pick<Solver<unknown, ImmutableRef>, 'held' | 'leftovers'>;
}

/** Disk usage beyond upstream's: as many records as there are, why they stay, and what else is on the disk. */
export function diskUsageService(parts: DiskUsageParts): RegisteredService {
  return service(DiskUsageDefinition, { list: (request, call) => list(parts, request, call) });
}

async function* list(
  { worker, solver }: DiskUsageParts,
  request: pb.ListRequest,
  call: ServerCall,
): AsyncGenerator<pb.ListPage> {
  const { refs, store } = worker;
  const { signal } = call;
  const { total } = await store.diskUse(signal);
  let recordBytes = 0;
  for await (const page of refs.diskUsagePages({ filters: request.filter, signal })) {
    for (const record of page) recordBytes += record.size;
    const reasons = request.holders ? reasonsOf(page, refs, solver) : [];
    yield { records: page.map(usageToWire), holders: reasons, disk: undefined };
  }
  // Of a part of the records nothing follows for the rest.
  if (request.filter.length > 0) return;
  const disk = { total: BigInt(Math.max(total, recordBytes)), records: BigInt(recordBytes) };
  yield { records: [], holders: [], disk };
}

function reasonsOf(
  page: readonly UsageRecord[],
  refs: Worker['refs'],
  solver: DiskUsageParts['solver'],
): pb.Holders[] {
  const holders = refs.holders(buildsByRecord(solver));
  return page
    .map(({ id }) => ({ record: id, reasons: holders.reasons(id) }))
    .filter(({ reasons }) => reasons.length > 0);
}

function buildsByRecord(solver: DiskUsageParts['solver']): BuildsByRecord {
  const builds = new Map<string, string[]>();
  const add = (id: string, jobs: readonly string[], what: string): void => {
    builds.set(id, [...(builds.get(id) ?? []), ...jobs.map((job) => `${job} (${what})`)]);
  };
  for (const { value, vertex, jobs } of solver.held()) add(value.id, jobs, vertex);
  for (const { leftover, vertex, jobs } of solver.leftovers())
    if (leftover instanceof FailedStep)
      for (const { id } of leftover.trees()) add(id, jobs, `left by the failed step ${vertex}`);
  return builds;
}
