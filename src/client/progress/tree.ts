import type { SolveStatus, VertexLog, VertexState, VertexStatusState, VertexWarning } from '../types.ts';
import { Screen } from './screen.ts';

/** A time a vertex ran, Unix nanoseconds; without `stop` it still runs. */
export interface Interval {
  readonly start: bigint;
  readonly stop?: bigint | undefined;
}

const NEWLINE = 10;
/** Columns of a line that are not the step's output. */
const SCREEN_MARGIN = 10;
const CANCELED = 'context canceled';

export function isCanceledText(error: string): boolean {
  return error.endsWith(CANCELED);
}

export function secondsOf(intervals: readonly Interval[]): number {
  let sum = 0n;
  for (const { start, stop } of intervals) sum += (stop ?? nowNanos()) - start;
  return Number(sum) / 1e9;
}

export function nowNanos(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));
}

/** Joins what overlaps; sorted by start. */
export function mergeIntervals(intervals: Iterable<Interval>): Interval[] {
  const sorted = [...intervals].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  const merged: Interval[] = [];
  for (const next of sorted) {
    const last = merged.at(-1);
    if (!last) merged.push(next);
    else if (last.stop === undefined) break;
    else if (last.stop < next.start) merged.push(next);
    else if (next.stop === undefined || next.stop > last.stop)
      merged[merged.length - 1] = { start: last.start, stop: next.stop };
  }
  return merged;
}

/** One line of the display: a step, or a progress group that stands for several. */
export class TreeVertex {
  readonly digest: string;
  name = '';
  error = '';
  cached = false;
  /** Number in plain output; 0 until it is first printed. */
  index = 0;
  readonly statuses: VertexStatusState[] = [];
  readonly statusById = new Map<string, VertexStatusState>();
  readonly statusUpdates = new Set<string>();
  readonly warnings: VertexWarning[] = [];
  warningsPrinted = 0;
  /** Lines not printed yet, with their times; the last may be unfinished. */
  logs: Buffer[] = [];
  logsPartial = false;
  /** Bytes of the first line that have been printed. */
  logsOffset = 0;
  readonly intervals = new Map<bigint, Interval>();
  merged: Interval[] = [];
  /** Members of a group that has not shown itself. */
  hidden = false;
  screen: Screen | undefined;
  /** Bytes written to the screen, and times it has been shown. */
  screenBytes = 0;
  screenShown = 0;
  /** Updates since the vertex was last left, and when the first of them came (ms). */
  count = 0;
  blockedSince: number | undefined;
  previous: VertexState | undefined;

  constructor(digest: string, screen: Screen | undefined) {
    this.digest = digest;
    this.screen = screen;
  }

  get isStarted(): boolean {
    return this.merged.length > 0;
  }

  get isCompleted(): boolean {
    return this.merged.at(-1)?.stop !== undefined;
  }

  touch(): void {
    if (this.count === 0) this.blockedSince = performance.now();
    this.count++;
  }
}

interface Group {
  readonly vertex: TreeVertex;
  readonly members: Map<string, VertexState>;
}

/** What is known of a build's steps, from its status messages (FEATURES L23). */
export class ProgressTree {
  readonly byDigest = new Map<string, TreeVertex>();
  /** Started ones, in that order. */
  readonly vertexes: TreeVertex[] = [];
  /** Changed since they were last printed. */
  readonly updates = new Set<string>();
  /** Start of the first step by the daemon's clock. */
  startTime: bigint | undefined;
  /** What to add to the daemon's times to get local ones. */
  clockOffset: bigint | undefined;
  readonly #groups = new Map<string, Group>();
  readonly #screenHeight: number | undefined;

  /** @param screenHeight lines of output kept per step to be shown as a window; undefined = none. */
  constructor(screenHeight?: number) {
    this.#screenHeight = screenHeight;
  }

  update(status: SolveStatus, width: number): void {
    const changedGroups = new Set<Group>();
    for (const state of status.vertexes) {
      this.startTime ??= state.started;
      if (state.progressGroup) changedGroups.add(this.#joinGroup(state, width));
      else this.#vertex(state, width);
    }
    for (const group of changedGroups) this.#refreshGroup(group);
    for (const update of status.statuses) this.#status(update);
    for (const warning of status.warnings) {
      const vertex = this.byDigest.get(warning.vertex);
      if (!vertex) continue;
      vertex.warnings.push(warning);
      vertex.touch();
      // A step that is shown as done is shown once more: its warning may come after its end.
      this.updates.add(vertex.digest);
    }
    for (const log of status.logs) this.#log(log, width);
  }

  #create(digest: string, width: number): TreeVertex {
    const screen =
      this.#screenHeight === undefined
        ? undefined
        : new Screen(this.#screenHeight, Math.max(1, width - SCREEN_MARGIN));
    const vertex = new TreeVertex(digest, screen);
    this.byDigest.set(digest, vertex);
    return vertex;
  }

  #vertex(state: VertexState, width: number): void {
    const known = this.byDigest.get(state.digest);
    const vertex = known ?? this.#create(state.digest, width);
    const wasStarted = vertex.isStarted;
    if (state.started !== undefined) {
      if (isChange(vertex.previous, state)) {
        vertex.touch();
        this.updates.add(state.digest);
      }
      vertex.previous = state;
      if (!wasStarted) {
        this.#syncClock(state.started);
        this.vertexes.push(vertex);
      }
      vertex.intervals.set(state.started, { start: state.started, stop: state.completed });
      vertex.merged = mergeIntervals(vertex.intervals.values());
    }
    // A repeated announcement without a start must not undo one that has started.
    if (!wasStarted || state.started !== undefined) {
      vertex.name = state.name;
      vertex.error = state.error;
      vertex.cached = state.cached;
    }
  }

  #syncClock(started: bigint): void {
    this.clockOffset ??= nowNanos() - started;
  }

  #joinGroup(state: VertexState, width: number): Group {
    const { id, name } = state.progressGroup!;
    let group = this.#groups.get(id);
    if (!group) {
      group = { vertex: this.#create(id, width), members: new Map() };
      group.vertex.name = name;
      group.vertex.hidden = true;
      this.#groups.set(id, group);
    }
    group.members.set(state.digest, state);
    this.byDigest.set(state.digest, group.vertex);
    return group;
  }

  #refreshGroup({ vertex, members }: Group): void {
    const wasStarted = vertex.isStarted;
    const wasHidden = vertex.hidden;
    const before = { cached: vertex.cached, error: vertex.error };
    let changed = false;
    let cached = true;
    for (const member of members.values()) {
      if (member.started !== undefined) {
        const old = vertex.intervals.get(member.started);
        if (!old || old.stop !== member.completed) changed = true;
        vertex.intervals.set(member.started, { start: member.started, stop: member.completed });
        if (!member.progressGroup?.weak) vertex.hidden = false;
      }
      cached &&= member.cached;
      if (vertex.error === '') vertex.error = member.error;
    }
    if (vertex.error !== '') vertex.hidden = false;
    vertex.cached = cached;
    vertex.merged = mergeIntervals(vertex.intervals.values());
    if (!wasStarted && vertex.merged[0]) this.#syncClock(vertex.merged[0].start);
    if (vertex.hidden) return;
    if (wasHidden) this.vertexes.push(vertex);
    if (changed || wasHidden || before.cached !== vertex.cached || before.error !== vertex.error) {
      vertex.touch();
      this.updates.add(vertex.digest);
    }
  }

  #status(update: VertexStatusState): void {
    const vertex = this.byDigest.get(update.vertex);
    if (!vertex) return;
    const known = vertex.statusById.get(update.id);
    const at = known ? vertex.statuses.indexOf(known) : -1;
    if (at >= 0) vertex.statuses[at] = update;
    else if (update.started !== undefined) vertex.statuses.push(update);
    vertex.statusById.set(update.id, update);
    vertex.statusUpdates.add(update.id);
    this.updates.add(vertex.digest);
    vertex.touch();
  }

  #log(log: VertexLog, width: number): void {
    const vertex = this.byDigest.get(log.vertex);
    if (!vertex) return;
    const { screen } = vertex;
    if (screen && this.#screenHeight !== undefined) {
      const columns = Math.max(1, width - SCREEN_MARGIN);
      if (screen.width !== columns) screen.resize(screen.height, columns);
      vertex.screenBytes += log.data.byteLength;
      screen.write(log.data);
    }
    const start = vertex.merged.at(-1)?.start;
    addLines(vertex, log.data, start === undefined ? 0 : Number(log.timestamp - start) / 1e9);
    this.updates.add(vertex.digest);
    vertex.touch();
  }
}

function isChange(old: VertexState | undefined, state: VertexState): boolean {
  return (
    !old ||
    old.name !== state.name ||
    old.started !== state.started ||
    (state.completed !== undefined && old.completed !== state.completed) ||
    old.cached !== state.cached ||
    old.error !== state.error
  );
}

function addLines(vertex: TreeVertex, data: Uint8Array, seconds: number): void {
  if (data.byteLength === 0) return;
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const time = seconds.toFixed(seconds < 10 ? 3 : seconds < 100 ? 2 : 1);
  let at = 0;
  while (at < bytes.length) {
    const end = bytes.indexOf(NEWLINE, at);
    const line = bytes.subarray(at, end < 0 ? bytes.length : end);
    const last = vertex.logs.length - 1;
    if (at === 0 && vertex.logsPartial && last >= 0)
      vertex.logs[last] = Buffer.concat([vertex.logs[last]!, line]);
    else vertex.logs.push(Buffer.concat([Buffer.from(`${time} `), line]));
    at = end < 0 ? bytes.length : end + 1;
    vertex.logsPartial = end < 0;
  }
}
