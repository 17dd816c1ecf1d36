import { BuildError, invalidArgument } from '../../base/errors.ts';
import type { SolveStatus } from '../types.ts';
import { readColors } from './colors.ts';
import type { ProgressOutput, ProgressText } from './show-types.ts';
import { PlainPainter } from './plain.ts';
import { RawJsonPainter } from './rawjson.ts';
import { TtyPainter } from './tty.ts';

/** Makes bytes of status messages; knows nothing of time or of where they go. */
export interface Painter {
  /** Paint after every update. */
  readonly immediate?: boolean;
  update(status: SolveStatus): void;
  /** What to write now. */
  paint(): Uint8Array;
  /** What to write last. */
  finish(): Uint8Array;
}

export type ProgressEnv = Readonly<Record<string, string | undefined>>;

const PAINT_INTERVAL_MS = 100;
const REFRESH_INTERVAL_MS = 150;
const DEFAULT_SIZE = { columns: 80, rows: 10 };

/** Shows the progress of a build (FEATURES L22). Must be finished, since it holds a timer. */
export class ProgressDisplay {
  readonly #painter: Painter | undefined;
  readonly #output: ProgressOutput;
  readonly #paintInterval: number;
  readonly #timer: NodeJS.Timeout | undefined;
  #lastPaint = Number.NEGATIVE_INFINITY;

  constructor(painter: Painter | undefined, output: ProgressOutput, rateMs?: number) {
    this.#painter = painter;
    this.#output = output;
    this.#paintInterval = rateMs ?? PAINT_INTERVAL_MS;
    if (painter && !painter.immediate)
      this.#timer = setInterval(() => this.#paint(), Math.max(1, rateMs ?? REFRESH_INTERVAL_MS));
    this.#timer?.unref();
  }

  update(status: SolveStatus): void {
    if (!this.#painter) return;
    this.#painter.update(status);
    const now = performance.now();
    if (this.#painter.immediate || now - this.#lastPaint >= this.#paintInterval) {
      this.#lastPaint = now;
      this.#paint();
    }
    this.#timer?.refresh();
  }

  finish(): void {
    clearInterval(this.#timer);
    if (this.#painter) this.#write(this.#painter.finish());
  }

  #paint(): void {
    if (this.#painter) this.#write(this.#painter.paint());
  }

  #write(data: Uint8Array): void {
    if (data.byteLength > 0) this.#output.write(data);
  }
}

/** @throws BuildError for an unknown mode, and for `tty` where there is no terminal. */
export function openDisplay(
  mode: string,
  output: ProgressOutput,
  env: ProgressEnv,
  warn: (text: string) => void,
  text: ProgressText = {},
): ProgressDisplay {
  const rate = /^\d+$/.test(env.TTY_DISPLAY_RATE ?? '') ? Number(env.TTY_DISPLAY_RATE) : undefined;
  const wanted = mode === 'auto' && env.BUILDKIT_PROGRESS ? env.BUILDKIT_PROGRESS : mode;
  return new ProgressDisplay(painterOf(wanted, output, env, warn, text), output, rate);
}

function painterOf(
  mode: string,
  output: ProgressOutput,
  env: ProgressEnv,
  warn: (text: string) => void,
  text: ProgressText,
): Painter | undefined {
  switch (mode) {
    case '':
    case 'auto':
      return output.isTTY ? ttyPainter(output, env, warn, text) : plainPainter(env, text);
    case 'tty':
      if (!output.isTTY) throw new BuildError('failed to get console: provided file is not a console');
      return ttyPainter(output, env, warn, text);
    case 'plain':
      return plainPainter(env, text);
    case 'rawjson':
      return new RawJsonPainter();
    case 'quiet':
      return undefined;
    default:
      throw invalidArgument(`invalid progress mode ${mode}`);
  }
}

function plainPainter(env: ProgressEnv, { description }: ProgressText): Painter {
  const more = description === undefined ? {} : { description };
  return new PlainPainter({ cutNames: env.PROGRESS_NO_TRUNC === '0', ...more });
}

function ttyPainter(
  output: ProgressOutput,
  env: ProgressEnv,
  warn: (text: string) => void,
  text: ProgressText,
): Painter {
  const lines = /^\d+$/.test(env.BUILDKIT_TTY_LOG_LINES ?? '') ? Number(env.BUILDKIT_TTY_LOG_LINES) : 0;
  return new TtyPainter({
    ...text,
    colors: readColors(env, warn),
    logLines: lines,
    size: () =>
      output.columns && output.rows ? { columns: output.columns, rows: output.rows } : DEFAULT_SIZE,
  });
}

/** Moves the times of all messages so that the first step that starts does so now (upstream's buildctl does it). */
export function resetTime(): (status: SolveStatus) => SolveStatus {
  const created = BigInt(Date.now()) * 1_000_000n;
  let difference: bigint | undefined;
  const moved = <T extends bigint | undefined>(time: T): T =>
    (time === undefined || difference === undefined ? time : time - difference) as T;
  return (status) => {
    if (difference === undefined)
      for (const { started } of status.vertexes) if (started !== undefined) difference = started - created;
    if (difference === undefined) return status;
    const span = <T extends { readonly started?: bigint; readonly completed?: bigint }>(item: T): T => ({
      ...item,
      ...(item.started === undefined ? {} : { started: moved(item.started) }),
      ...(item.completed === undefined ? {} : { completed: moved(item.completed) }),
    });
    return {
      vertexes: status.vertexes.map(span),
      statuses: status.statuses.map((s) => ({ ...span(s), timestamp: moved(s.timestamp) })),
      logs: status.logs.map((l) => ({ ...l, timestamp: moved(l.timestamp) })),
      warnings: status.warnings,
    };
  };
}
