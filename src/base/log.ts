export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';
const RANK: Record<LogLevel, number> = { error: 0, warn: 1, info: 2, debug: 3, trace: 4 };

export type LogFields = Readonly<Record<string, unknown>>;

/** Structured log of the daemon. Never given secrets, credentials or environment values. */
export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  trace(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to every line. */
  child(fields: LogFields): Logger;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: 'text' | 'json';
  readonly write: (line: string) => void;
}

export function createLogger(options: LogOptions, base: LogFields = {}): Logger {
  const emit = (level: LogLevel, message: string, fields?: LogFields): void => {
    if (RANK[level] > RANK[options.level]) return;
    const all = { ...base, ...fields };
    options.write(options.format === 'json' ? jsonLine(level, message, all) : textLine(level, message, all));
  };
  return {
    error: (m, f) => emit('error', m, f),
    warn: (m, f) => emit('warn', m, f),
    info: (m, f) => emit('info', m, f),
    debug: (m, f) => emit('debug', m, f),
    trace: (m, f) => emit('trace', m, f),
    child: (fields) => createLogger(options, { ...base, ...fields }),
  };
}

/** Discards everything. */
export const silentLogger: Logger = createLogger({ level: 'error', format: 'text', write: () => {} });

/** As upstream's logs have it, which log readers know. */
function levelName(level: LogLevel): string {
  return level === 'warn' ? 'warning' : level;
}

function plain(value: unknown): unknown {
  return value instanceof Error ? value.message : typeof value === 'bigint' ? value.toString() : value;
}

function jsonLine(level: LogLevel, message: string, fields: LogFields): string {
  const flat = Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, plain(v)]));
  return `${JSON.stringify({ ...flat, level: levelName(level), msg: message, time: new Date().toISOString() })}\n`;
}

function textLine(level: LogLevel, message: string, fields: LogFields): string {
  const quote = (v: unknown): string => {
    const text = typeof v === 'object' && v !== null ? JSON.stringify(v) : String(v);
    return /^[\w.:/@+-]+$/.test(text) ? text : JSON.stringify(text);
  };
  const tail = Object.entries(fields).map(([k, v]) => ` ${k}=${quote(plain(v))}`);
  return `time=${JSON.stringify(new Date().toISOString())} level=${levelName(level)} msg=${quote(message)}${tail.join('')}\n`;
}
