/** In characters. */
export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

/** What a process is connected to. */
export interface ProcessIo {
  readonly stdin?: AsyncIterable<Uint8Array>;
  readonly stdout?: (data: Uint8Array) => void;
  readonly stderr?: (data: Uint8Array) => void;
  /** Gives it a terminal: its sizes, the first one at once. All output is `stdout` then. */
  readonly sizes?: AsyncIterable<TerminalSize>;
  /** Told when it runs. */
  readonly onStarted?: () => void;
  /** Signals to be sent to it, as they come: `SIGTERM`, … */
  readonly signals?: AsyncIterable<string>;
}
