import { bytesText } from '../units.ts';
import type { SolveStatus, VertexStatusState } from '../types.ts';
import type { Painter } from './display.ts';
import { errorBlocks } from './errors.ts';
import { isCanceledText, ProgressTree, secondsOf, type TreeVertex } from './tree.ts';

/** A vertex is not left for another before about this long, s. */
const ANTI_FLICKER_S = 5;
/** One that waits longer than this to be shown goes first, ms. */
const MAX_DELAY_MS = 10_000;
const MIN_PROGRESS = 0.05;
const MIN_PROGRESS_TIME_NS = 5_000_000_000n;
const NAME_LIMIT = 72;
/** Lines of a step kept for its error block. */
const KEPT_LINES = 10;
const WIDTH = 80;
const NEWLINE = Buffer.from('\n');

export interface PlainOptions {
  /** First line, `#0 …`. */
  readonly description?: string;
  /** Cut long names (`PROGRESS_NO_TRUNC=0`). */
  readonly cutNames?: boolean;
}

/** Text for logs and files: one step at a time, numbered (FEATURES L23). */
export class PlainPainter implements Painter {
  readonly #tree = new ProgressTree();
  readonly #options: PlainOptions;
  readonly #lastStatus = new Map<string, VertexStatusState>();
  readonly #kept = new Map<TreeVertex, Buffer[]>();
  #current: TreeVertex | undefined;
  #started = false;
  #nextIndex = 0;
  #out: Buffer[] = [];

  constructor(options: PlainOptions = {}) {
    this.#options = options;
  }

  update(status: SolveStatus): void {
    this.#tree.update(status, WIDTH);
  }

  paint(): Uint8Array {
    this.#select();
    return this.#take();
  }

  finish(): Uint8Array {
    this.#select();
    const tails = (vertex: TreeVertex): readonly Buffer[] => this.#kept.get(vertex) ?? [];
    return Buffer.concat([this.#take(), errorBlocks(this.#tree.vertexes, tails)]);
  }

  #take(): Buffer {
    const out = Buffer.concat(this.#out);
    this.#out = [];
    return out;
  }

  #line(text: string): void {
    this.#out.push(Buffer.from(`${text}\n`));
  }

  /** Chooses what to print: what has completed, then the current one, then whoever is due. */
  #select(): void {
    const completed: TreeVertex[] = [];
    const rest = new Set<TreeVertex>();
    for (const digest of this.#tree.updates) {
      const vertex = this.#tree.byDigest.get(digest);
      if (!vertex || vertex.hidden) continue;
      if (vertex.isCompleted) completed.push(vertex);
      else rest.add(vertex);
    }
    const current = this.#current;
    const finished = current !== undefined && completed.includes(current);
    const stop = (v: TreeVertex): bigint => v.merged.at(-1)?.stop ?? 0n;
    completed.sort((a, b) => (stop(a) < stop(b) ? -1 : stop(a) > stop(b) ? 1 : 0));
    if (finished) this.#print(current);
    for (const vertex of completed) if (vertex !== current) this.#print(vertex);
    if (rest.size === 0) this.#keepOneOpen(current);
    else this.#printOpen(rest, current, finished);
  }

  #keepOneOpen(current: TreeVertex | undefined): void {
    if (current?.isStarted && !current.isCompleted) return;
    for (const vertex of this.#tree.byDigest.values())
      if (vertex.isStarted && !vertex.isCompleted && !vertex.hidden) {
        this.#print(vertex);
        return;
      }
  }

  #printOpen(rest: Set<TreeVertex>, current: TreeVertex | undefined, finished: boolean): void {
    if (current && rest.has(current)) this.#print(current);
    if (current) rest.add(current);
    const now = performance.now();
    const speeds = new Map<TreeVertex, number>();
    let most: TreeVertex | undefined;
    let overdue: TreeVertex | undefined;
    let sum = 0;
    for (const vertex of rest) {
      if (vertex.blockedSince === undefined) continue;
      const waited = now - vertex.blockedSince;
      const speed = vertex.count / Math.max(waited / 1000, 1e-6);
      speeds.set(vertex, speed);
      sum += speed;
      if (waited > MAX_DELAY_MS && vertex !== current) overdue ??= vertex;
      if (!most || speed > (speeds.get(most) ?? 0)) most = vertex;
    }
    most = overdue ?? most;
    if (!most) return;
    if (finished || !current || overdue) {
      this.#print(most);
      return;
    }
    const share = sum === 0 ? 0 : (speeds.get(current) ?? 0) / sum;
    const shown = (now - (current.blockedSince ?? now)) / 1000;
    if (share < 1 && (1 / (1 - share)) * ANTI_FLICKER_S < shown) this.#print(most);
  }

  #print(vertex: TreeVertex): void {
    vertex.index ||= ++this.#nextIndex;
    if (vertex !== this.#current) this.#switchTo(vertex);
    const open = this.#printStatuses(vertex);
    for (; vertex.warningsPrinted < vertex.warnings.length; vertex.warningsPrinted++) {
      const { short } = vertex.warnings[vertex.warningsPrinted]!;
      this.#line(`#${vertex.index} WARN: ${Buffer.from(short).toString()}`);
    }
    this.#printLogs(vertex);
    this.#current = vertex;
    if (vertex.isCompleted && !open) this.#printEnd(vertex);
    this.#tree.updates.delete(vertex.digest);
  }

  #switchTo(vertex: TreeVertex): void {
    const old = this.#current;
    if (old) {
      if (old.logsPartial) this.#line('');
      old.logsOffset = 0;
      old.count = 0;
      this.#line(`#${old.index} ...`);
    }
    if (this.#started) this.#line('');
    else if (this.#options.description) this.#line(`#0 ${this.#options.description}\n`);
    this.#started = true;
    const { name } = vertex;
    const cut = this.#options.cutNames && name.length > NAME_LIMIT;
    this.#line(`#${vertex.index} ${cut ? `${name.slice(0, NAME_LIMIT)}...` : name}`);
  }

  /** True when a sub-status that was printed is still open. */
  #printStatuses(vertex: TreeVertex): boolean {
    let open = false;
    for (const status of vertex.statuses) {
      if (!vertex.statusUpdates.has(status.id)) continue;
      const last = this.#lastStatus.get(status.id);
      if (last && status.completed === undefined) {
        const progress = status.total > 0 ? (status.current - last.current) / status.total : 0;
        if (progress < MIN_PROGRESS && status.timestamp - last.timestamp < MIN_PROGRESS_TIME_NS) continue;
      }
      this.#lastStatus.set(status.id, status);
      if (status.completed === undefined) open = true;
      this.#line(`#${vertex.index} ${status.id}${statusTail(status)}`);
    }
    vertex.statusUpdates.clear();
    return open;
  }

  #printLogs(vertex: TreeVertex): void {
    const kept = this.#kept.get(vertex) ?? [];
    vertex.logs.forEach((line, index) => {
      const continued = index === 0 && vertex.logsOffset !== 0;
      if (continued) this.#out.push(line.subarray(vertex.logsOffset));
      else this.#out.push(Buffer.from(`#${vertex.index} `), line);
      const whole = index !== vertex.logs.length - 1 || !vertex.logsPartial;
      if (whole) {
        this.#out.push(NEWLINE);
        kept.push(line);
      }
    });
    if (vertex.logs.length === 0) return;
    kept.splice(0, kept.length - KEPT_LINES);
    this.#kept.set(vertex, kept);
    vertex.logs = vertex.logsPartial ? vertex.logs.slice(-1) : [];
    vertex.logsOffset = vertex.logs[0]?.length ?? 0;
  }

  #printEnd(vertex: TreeVertex): void {
    this.#current = undefined;
    vertex.count = 0;
    if (vertex.logsPartial) this.#line('');
    const how =
      vertex.error !== ''
        ? isCanceledText(vertex.error)
          ? 'CANCELED'
          : `ERROR: ${vertex.error}`
        : vertex.cached
          ? 'CACHED'
          : `DONE ${secondsOf(vertex.merged).toFixed(1)}s`;
    this.#line(`#${vertex.index} ${how}`);
  }
}

function statusTail(status: VertexStatusState): string {
  const amount = amountText(status);
  const seconds =
    status.started === undefined ? 0 : Number((status.completed ?? status.timestamp) - status.started) / 1e9;
  return [
    amount && ` ${amount}`,
    seconds > 0.01 ? ` ${seconds.toFixed(1)}s` : '',
    status.completed === undefined ? '' : ' done',
  ].join('');
}

/** `12.00MB / 40.00MB`, or only what is done when the total is unknown. */
export function amountText({ current, total }: VertexStatusState): string {
  if (total !== 0) return `${bytesText(current)} / ${bytesText(total)}`;
  return current === 0 ? '' : bytesText(current);
}
