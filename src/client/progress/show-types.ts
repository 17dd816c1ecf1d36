import type { SolveStatus } from '../../solver/status-types.ts';

/**
 * How progress is shown. `auto`: `tty` where the output is a terminal, else `plain`; the environment's
 * BUILDKIT_PROGRESS may say otherwise. `plain`: lines for logs. `rawjson`: one JSON object for each message.
 */
export type ProgressMode = 'auto' | 'plain' | 'tty' | 'quiet' | 'rawjson';

/** Where progress goes: a stream of Node, or anything that takes bytes. */
export interface ProgressOutput {
  write(data: Uint8Array): unknown;
  readonly isTTY?: boolean;
  /** Of a terminal, as they are now. */
  readonly columns?: number;
  readonly rows?: number;
}

/** What a display says beside the progress. */
export interface ProgressText {
  /** What is being done, for terminals; default `Building`. */
  readonly phase?: string;
  /** A few words on the build: the first line of plain text, at the right of a terminal's first line. */
  readonly description?: string;
}

/** How to show progress. */
export interface ShowOptions extends ProgressText {
  /** Default `auto`. */
  readonly mode?: ProgressMode;
  /** Default the standard error. */
  readonly output?: ProgressOutput;
  /** Colours, lengths and rates: BUILDKIT_COLORS, NO_COLOR, BUILDKIT_TTY_LOG_LINES, …; default that of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Times as the daemon has them; else they are moved so that the first step begins now. */
  readonly keepTimes?: boolean;
  /** Is given each message as well. */
  readonly onStatus?: (status: SolveStatus) => void;
}

/** Shows messages as they are given to it. It holds a timer until it is finished. */
export interface ProgressView extends Disposable {
  update(status: SolveStatus): void;
  /** Writes what is left: the errors. */
  finish(): void;
}
