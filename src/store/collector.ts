import { Pacer } from '../base/pacer.ts';
import type { Database } from './database.ts';
import { type GcGraph, type GcNode, isLive } from './gc.ts';
import type { SqlLeaseStore } from './lease-store.ts';

/** Things looked at in one transaction: bounds the pause of the main thread (about 20 µs each). */
const BATCH = 64;
/** Collection starts this long after something was let go, in milliseconds. */
const DELAY_MS = 2000;

/** Removes one thing; called inside a transaction. Returns what it referred to, undefined when it is not there. */
export type Remover = (id: string) => readonly GcNode[] | undefined;

/**
 * Garbage collection without marking the whole store: whatever loses a lease or a reference is queued with that
 * very commit, and only queued things are examined. Deleting something queues what it referred to.
 */
export class Collector {
  readonly #db: Database;
  readonly #pacer: Pacer;
  readonly #graph: GcGraph;
  readonly #removers = new Map<GcNode['kind'], Remover>();
  #leases: SqlLeaseStore | undefined;
  #running: Promise<number> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(db: Database, pacer = new Pacer()) {
    this.#db = db;
    this.#pacer = pacer;
    this.#graph = sqlGraph(db);
  }

  /** Completes the wiring: the collector needs those who remove, and they need the collector. */
  attach(leases: SqlLeaseStore, removers: Readonly<Record<GcNode['kind'], Remover>>): void {
    this.#leases = leases;
    this.#removers.set('content', removers.content).set('snapshot', removers.snapshot);
  }

  /** Collects soon, in the background. */
  schedule(): void {
    if (this.#closed || this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      // Whatever went wrong stays queued; explicit collections report it.
      this.collect().catch(() => {});
    }, DELAY_MS).unref();
  }

  /** Queues `node` (inside the caller's transaction, if any). */
  suspect(node: GcNode): void {
    this.#db.run('INSERT OR IGNORE INTO gc_queue VALUES (?, ?)', node.kind, node.id);
  }

  /** Collects everything that is garbage now. Returns how many things went. Callers share one run. */
  async collect(): Promise<number> {
    // A run under way may have passed what the caller has in mind.
    await this.#running;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return await this.#running;
  }

  async #run(): Promise<number> {
    this.#leases?.deleteStale({ temporary: false });
    let removed = 0;
    const expanded = new Set<string>();
    const pace = this.#pacer.start();
    for (;;) {
      const batch = this.#db.all<GcNode>('SELECT kind, id FROM gc_queue LIMIT ?', BATCH);
      if (batch.length === 0 || this.#closed) return removed;
      removed += this.#db.transaction(() => this.#sweep(batch, expanded));
      await pace.turn();
    }
  }

  #sweep(batch: readonly GcNode[], expanded: Set<string>): number {
    let removed = 0;
    for (const node of batch) {
      this.#db.run('DELETE FROM gc_queue WHERE kind = ? AND id = ?', node.kind, node.id);
      if (isLive(this.#graph, node)) {
        this.#suspectTargets(node, expanded);
        continue;
      }
      const targets = this.#removers.get(node.kind)?.(node.id);
      if (!targets) continue;
      for (const target of targets) this.suspect(target);
      removed++;
    }
    return removed;
  }

  /** What lost its last deep lease but stays by a flat one no longer keeps what its labels name. */
  #suspectTargets(node: GcNode, expanded: Set<string>): void {
    if (node.kind !== 'content' || expanded.has(node.id)) return;
    const targets = this.#db.all<GcNode>(
      'SELECT kind, target AS id FROM blob_edges WHERE digest = ?',
      node.id,
    );
    if (targets.length === 0 || isLive(this.#graph, node, true)) return;
    expanded.add(node.id);
    for (const target of targets) this.suspect(target);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }
}

/** The things of a store, what holds them and what refers to them. */
export function sqlGraph(db: Database): GcGraph {
  return {
    held: ({ kind, id }) => {
      const row = db.get<{ flat: number | null }>(
        `SELECT min(l.flat) AS flat FROM lease_resources r JOIN leases l ON l.id = r.lease
         WHERE r.kind = ? AND r.id = ? AND (l.expires_at IS NULL OR l.expires_at > ?)`,
        kind,
        id,
        Date.now(),
      );
      return row?.flat === 0 ? 'deep' : row?.flat === 1 ? 'flat' : undefined;
    },
    *referrers({ kind, id }) {
      for (const { digest } of db.all<{ digest: string }>(
        'SELECT digest FROM blob_edges WHERE kind = ? AND target = ?',
        kind,
        id,
      ))
        yield { node: { kind: 'content', id: digest }, firm: false };
      if (kind !== 'snapshot') return;
      for (const { name } of db.all<{ name: string }>(
        'SELECT c.name FROM snapshots c JOIN snapshots p ON c.parent = p.id WHERE p.name = ?',
        id,
      ))
        yield { node: { kind: 'snapshot', id: name }, firm: true };
    },
  };
}
