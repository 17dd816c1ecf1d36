import type { RecordKind, RecordRow, RecordTable } from './records.ts';
import { RowMetadata } from './records.ts';
import type { BlobProvider } from './ref.ts';

/** A record that somebody uses now: kept in memory while it has users. */
export class LiveRecord {
  readonly row: RecordRow;
  readonly metadata: RowMetadata;
  /** What it is made from: the parent of a layer, or the sources of a merge or diff. */
  readonly parents: readonly LiveRecord[];
  /** How many layers it has. */
  readonly layerCount: number;
  /** Of an immutable record that is not finalized. */
  equalMutable: LiveRecord | undefined;
  provider: BlobProvider | undefined;
  /** Removed when nobody uses it any more. */
  isPassing = false;
  /** Handles, live children and work under way. */
  users = 0;
  /** When its tree was last found to be there; see CacheCore. */
  seenAt = Number.NEGATIVE_INFINITY;
  /** Handles whose release counts as a use. */
  countingUsers = 0;

  constructor(
    table: RecordTable,
    row: RecordRow,
    parents: readonly LiveRecord[],
    equal: LiveRecord | undefined,
  ) {
    this.row = row;
    this.metadata = new RowMetadata(table, row);
    this.parents = parents;
    this.equalMutable = equal;
    const below = parents.reduce((sum, parent) => sum + parent.layerCount, 0);
    this.layerCount = { layer: below + 1, merge: below, diff: 1 }[row.kind];
  }

  get id(): string {
    return this.row.id;
  }

  get kind(): RecordKind {
    return this.row.kind;
  }

  /** What a layer lies on. */
  get parent(): LiveRecord | undefined {
    return this.kind === 'layer' ? this.parents[0] : undefined;
  }

  /** Of a diff: what it leads from, and what to. */
  get lower(): LiveRecord | undefined {
    return this.parents[0];
  }

  get upper(): LiveRecord | undefined {
    return this.parents[1];
  }

  /** The snapshot that holds the record's tree at present. */
  get snapshot(): string {
    return this.equalMutable?.row.snapshot ?? this.row.snapshot;
  }

  /**
   * The records whose layers on top of one another are this record, lowest first. A diff to the next layer is that
   * layer, any other is a layer of its own (FEATURES F7).
   */
  chain(): LiveRecord[] {
    const chain: LiveRecord[] = [];
    const stack: LiveRecord[] = [];
    for (let record: LiveRecord | undefined = this; record; record = record.parent) stack.push(record);
    for (const record of stack.reverse()) {
      if (record.kind === 'merge') for (const part of record.parents) chain.push(...part.chain());
      else if (record.isOneLayer()) chain.push(record.upper!);
      else chain.push(record);
    }
    return chain;
  }

  /** A diff to the layer that stands right on its lower side. */
  isOneLayer(): boolean {
    return this.kind === 'diff' && this.upper !== undefined && this.upper.parent === this.lower;
  }

  /** Every record that is needed to bring this one, itself included, each once. */
  ancestors(): ReadonlySet<LiveRecord> {
    const found = new Set<LiveRecord>([this]);
    // A set is visited in order of insertion, also what is added meanwhile.
    for (const record of found) for (const parent of record.parents) found.add(parent);
    return found;
  }
}
