import type { LeaseStore } from '../store/lease.ts';
import { type CacheCore, variantsLease } from './core.ts';
import type { LiveRecord } from './live-record.ts';

/** Children named for one record; more are counted. */
const MAX_NAMED = 3;

/** Builds that hold results, by record. */
export type BuildsByRecord = ReadonlyMap<string, readonly string[]>;

/** Says of records why they, or their bytes, cannot be reclaimed now. */
export class Holders {
  readonly #core: CacheCore;
  readonly #builds: BuildsByRecord;
  readonly #children = new Map<string, LiveRecord[]>();

  /** A picture of this moment. */
  constructor(core: CacheCore, builds: BuildsByRecord) {
    this.#core = core;
    this.#builds = builds;
    for (const record of core.liveRecords()) {
      const below = record.equalMutable ? [...record.parents, record.equalMutable] : record.parents;
      for (const parent of below) {
        const known = this.#children.get(parent.id);
        if (known) known.push(record);
        else this.#children.set(parent.id, [record]);
      }
    }
  }

  /** Empty for a record that can be removed. */
  reasons(id: string): string[] {
    const live = this.#core.live(id);
    if (!live) return this.#leases(id);
    const builds = this.#builds.get(id) ?? [];
    const children = this.#children.get(id) ?? [];
    const reasons = builds.map((build) => `in use by build ${build}`);
    if (live.row.mutable === 1) reasons.push('locked: it is being written');
    const named = children.slice(0, MAX_NAMED);
    for (const child of named) reasons.push(`parent of ${child.id}, which is in use`);
    if (children.length > named.length)
      reasons.push(`parent of ${children.length - named.length} more that are in use`);
    if (reasons.length === 0) reasons.push('in use by work under way');
    return reasons;
  }

  /** Of a record that can go: what keeps its bytes on the disk all the same. */
  #leases(id: string): string[] {
    const { table, leases } = this.#core.parts;
    const row = table.get(id);
    if (!row) return [];
    const own = [id, variantsLease(id)];
    const others = (kind: 'content' | 'snapshot', resource: string | null): string[] =>
      resource === null ? [] : leases.holders({ kind, id: resource }).filter((lease) => !own.includes(lease));
    const isRecord = (lease: string): boolean => table.get(lease) !== undefined;
    return [...new Set([...others('snapshot', row.snapshot), ...others('content', row.blob)])]
      .slice(0, MAX_NAMED)
      .map((lease) =>
        isRecord(lease)
          ? `shares its bytes with ${lease}`
          : `bytes held by lease ${leaseText(leases, lease)}`,
      );
  }
}

function leaseText(leases: LeaseStore, id: string): string {
  const expires = leases.get(id)?.expiresAt;
  return expires ? `${id} until ${expires.toISOString()}` : id;
}
