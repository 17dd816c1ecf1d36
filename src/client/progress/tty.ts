import type { SolveStatus } from '../types.ts';
import { type Colors, paintText } from './colors.ts';
import type { Painter } from './display.ts';
import { errorBlocks } from './errors.ts';
import { amountText } from './plain.ts';
import {
  type Interval,
  isCanceledText,
  mergeIntervals,
  nowNanos,
  ProgressTree,
  secondsOf,
  type TreeVertex,
} from './tree.ts';

const MIN_LOG_LINES = 6;
const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
const TO_LINE_START = '\x1b[0G';
/** Columns beside a step's output. */
const SCREEN_MARGIN = 10;
const MIN_NAME = 12;
/** How much having been shown before counts against bytes of output. */
const SHOWN_WEIGHT = 50;

export interface TtyOptions {
  readonly colors: Colors;
  readonly size: () => { readonly columns: number; readonly rows: number };
  /** Lines of output per running step (`BUILDKIT_TTY_LOG_LINES`). */
  readonly logLines?: number;
  /** Word after `[+]`; `Building`. */
  readonly phase?: string;
  /** Shown at the right of the first line. */
  readonly description?: string;
}

/** One line of the display. */
interface Row {
  readonly name: string;
  readonly amount: string;
  readonly intervals: readonly Interval[];
  readonly completed: boolean;
  readonly kind: 'run' | 'cancel' | 'error';
  readonly vertex: TreeVertex | undefined;
  window?: boolean;
}

/** The display that redraws itself in place (FEATURES L24). */
export class TtyPainter implements Painter {
  readonly #tree: ProgressTree;
  readonly #options: TtyOptions;
  readonly #wantedLines: number;
  #lines = 0;
  #drawn = false;

  constructor(options: TtyOptions) {
    this.#options = options;
    this.#wantedLines = Math.max(MIN_LOG_LINES, options.logLines ?? 0);
    this.#tree = new ProgressTree(this.#wantedLines);
  }

  update(status: SolveStatus): void {
    this.#tree.update(status, this.#options.size().columns);
  }

  paint(): Uint8Array {
    return Buffer.from(this.#draw(false));
  }

  finish(): Uint8Array {
    return Buffer.concat([Buffer.from(this.#draw(true)), errorBlocks(this.#tree.vertexes, () => [])]);
  }

  #draw(last: boolean): string {
    const { columns, rows: height } = this.#options.size();
    const up = this.#lines + (this.#drawn ? 1 : 0);
    this.#drawn = true;
    const out: string[] = [
      up > 0 ? `\x1b[${up}A` : '',
      TO_LINE_START,
      HIDE_CURSOR,
      this.#header(columns, last),
    ];
    const logLines = Math.max(MIN_LOG_LINES, Math.min(this.#wantedLines, height - MIN_LOG_LINES - 1));
    let lines = 0;
    for (const row of chooseRows(this.#rows(), height, logLines, last)) {
      const text = this.#rowText(row, columns);
      if (text === undefined) continue;
      out.push(text);
      lines++;
      if (row.window && row.vertex?.screen) lines += this.#window(row.vertex, logLines, columns, out);
    }
    const left = this.#lines - lines;
    if (left > 0) out.push(`${' '.repeat(columns)}\n`.repeat(left), `\x1b[${left}A`, TO_LINE_START);
    this.#lines = lines;
    out.push(SHOW_CURSOR);
    return out.join('');
  }

  #header(columns: number, last: boolean): string {
    let total = 0;
    let completed = 0;
    for (const vertex of this.#tree.byDigest.values()) {
      if (vertex.hidden) continue;
      total++;
      if (vertex.isCompleted) completed++;
    }
    const { startTime, clockOffset } = this.#tree;
    const now = nowNanos();
    const start = startTime === undefined ? now : startTime + (clockOffset ?? 0n);
    const finished = last && completed > 0 && completed === total ? 'FINISHED' : '';
    const seconds = (Number(now - start) / 1e9).toFixed(1);
    const text = `[+] ${this.#options.phase ?? 'Building'} ${seconds}s (${completed}/${total}) ${finished}`;
    const { description } = this.#options;
    const line = description ? align(text, description, columns - 1) : align(text, '', columns);
    return `${line.slice(0, columns)}\n`;
  }

  #rows(): Row[] {
    const offset = this.#tree.clockOffset ?? 0n;
    const local = ({ start, stop }: Interval): Interval => ({
      start: start + offset,
      stop: stop === undefined ? undefined : stop + offset,
    });
    return this.#tree.vertexes.flatMap((vertex) => vertexRows(vertex, local));
  }

  #rowText(row: Row, columns: number): string | undefined {
    if (row.intervals.length === 0) return undefined;
    const seconds = secondsOf(row.intervals);
    const timer = ` ${(seconds < 0.05 ? 0 : seconds).toFixed(1)}s\n`;
    const prefix = ' => ';
    let left = columns - prefix.length - timer.length - 1;
    const showAmount = row.amount !== '' && left + row.amount.length > 20;
    if (showAmount) left -= row.amount.length + 1;
    if (left < MIN_NAME) return undefined;
    const name = row.name.slice(0, left);
    const text = align(prefix + name + (showAmount ? ` ${row.amount}` : ''), timer, columns);
    return row.completed ? paintText(text, this.#options.colors[row.kind]) : text;
  }

  #window(vertex: TreeVertex, logLines: number, columns: number, out: string[]): number {
    const screen = vertex.screen!;
    screen.resize(logLines, columns - SCREEN_MARGIN);
    const lines = screen.lines();
    for (const line of lines) out.push(paintText(` => => # ${line}\n`, this.#options.colors.faint));
    vertex.screenShown++;
    return lines.length;
  }
}

function vertexRows(vertex: TreeVertex, local: (interval: Interval) => Interval): Row[] {
  const canceled = isCanceledText(vertex.error);
  const state = vertex.error === '' ? '' : canceled ? 'CANCELED ' : 'ERROR ';
  const intervals = mergeIntervals([...vertex.intervals.values()].map(local));
  const rows: Row[] = [
    {
      name: (vertex.cached ? 'CACHED ' : '') + state + vertex.name.replaceAll('\t', ' '),
      amount: '',
      intervals,
      completed: [...vertex.intervals.values()].every((i) => i.stop !== undefined),
      kind: state === '' ? 'run' : canceled ? 'cancel' : 'error',
      vertex,
    },
  ];
  for (const status of vertex.statuses) {
    const { started, completed } = status;
    rows.push({
      name: `=> ${status.id}`,
      amount: amountText(status),
      intervals: started === undefined ? [] : [local({ start: started, stop: completed })],
      completed: completed !== undefined,
      kind: 'run',
      vertex: undefined,
    });
  }
  const last = vertex.merged.at(-1);
  for (const warning of vertex.warnings)
    rows.push({
      name: `WARN: ${Buffer.from(warning.short).toString()}`,
      amount: '',
      intervals: last ? [local(last)] : [],
      completed: false,
      kind: 'cancel',
      vertex: undefined,
    });
  return rows;
}

/** Gives output windows to the most active steps while there is room, and cuts the rest to the screen. */
function chooseRows(rows: readonly Row[], height: number, logLines: number, last: boolean): readonly Row[] {
  const running = rows.filter((r) => !r.completed);
  const activity = ({ vertex }: Row): number =>
    (vertex?.screenBytes ?? 0) + (vertex?.screenShown ?? 0) * SHOWN_WEIGHT;
  const candidates = running
    .filter((r) => (r.vertex?.screenBytes ?? 0) > 0)
    .sort((a, b) => activity(b) - activity(a));
  const needed = logLines + 3;
  let free = height - 2 - running.length;
  let used = 0;
  for (const row of candidates) {
    if (free <= needed) break;
    row.window = true;
    used += row.vertex!.screen!.lines().length;
    free -= needed;
  }
  return last ? rows : fit(rows, height - 2 - used);
}

/** The last rows, with unfinished ones from above in place of finished ones. */
function fit(rows: readonly Row[], limit: number): readonly Row[] {
  if (limit < 0) return [];
  if (rows.length <= limit) return rows;
  const shown = rows.slice(rows.length - limit);
  const lost = rows.slice(0, rows.length - limit).filter((r) => !r.completed);
  if (lost.length === 0) return shown;
  let room = lost.length;
  const kept = shown.filter((row) => !row.completed || room-- <= 0);
  const space = shown.length - kept.length;
  return [...lost.slice(lost.length - space), ...kept];
}

function align(left: string, right: string, width: number): string {
  return `${left.padEnd(Math.max(0, width - right.length - 1))} ${right}`;
}
