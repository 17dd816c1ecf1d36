import { BuildError } from '../base/errors.ts';

/** Status line and header lines of an answer. */
const MAX_HEAD_BYTES = 64 << 10;

/** What comes before the body of an answer (RFC 9112 section 2). */
export interface ResponseHead {
  /** The last digit of `HTTP/1.x`. */
  readonly minor: number;
  readonly status: number;
  readonly statusText: string;
  /** By name in lower case, each line's value. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
  /** Of the head, with the empty line after it. */
  readonly bytes: number;
}

const BEGIN = 'HTTP/1.';
const CR = 0x0d;
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([^\0\r\n]*))?$/;
const HEADER_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r\n]*?)[ \t]*$/;

/** undefined while the end of the head has not come. @throws BuildError when it is none, or too long */
export function parseResponseHead(data: Buffer): ResponseHead | undefined {
  const end = data.indexOf('\r\n\r\n');
  if (end > MAX_HEAD_BYTES || (end < 0 && data.length > MAX_HEAD_BYTES))
    throw bad(`more than ${MAX_HEAD_BYTES} bytes of headers`);
  if (end < 0) {
    // Whoever speaks otherwise may wait for an answer: it is not waited for.
    const begin = data.toString('latin1', 0, BEGIN.length);
    const line = data.indexOf('\n');
    if (!BEGIN.startsWith(begin) || line === 0 || (line > 0 && data[line - 1] !== CR))
      throw bad('no HTTP/1.1');
    return undefined;
  }
  const [first = '', ...lines] = data.toString('latin1', 0, end).split('\r\n');
  const status = STATUS_LINE.exec(first);
  if (!status) throw bad(`status line ${JSON.stringify(first.slice(0, 100))}`);
  const headers = new Map<string, string[]>();
  for (const line of lines) {
    const [, name, value] = HEADER_LINE.exec(line) ?? [];
    if (name === undefined || value === undefined)
      throw bad(`header line ${JSON.stringify(line.slice(0, 100))}`);
    const key = name.toLowerCase();
    const values = headers.get(key);
    if (values) values.push(value);
    else headers.set(key, [value]);
  }
  return {
    minor: Number(status[1]),
    status: Number(status[2]),
    statusText: status[3] ?? '',
    headers,
    bytes: end + 4,
  };
}

function bad(what: string): BuildError {
  return new BuildError(`malformed answer of a server: ${what}`);
}

/** How the end of the body is known: by its bytes, by its chunks, or by that of the connection. */
export type BodyLength = number | 'chunked' | 'until the end';

/** @throws BuildError for nonsense */
export function bodyLength({ status, headers }: ResponseHead): BodyLength {
  if (status === 204 || status === 304) return 0;
  const coding = headers.get('transfer-encoding')?.join(', ');
  if (coding !== undefined) {
    if (coding.toLowerCase() !== 'chunked')
      throw bad(`transfer-encoding ${JSON.stringify(coding.slice(0, 100))}`);
    return 'chunked';
  }
  const lengths = new Set(headers.get('content-length'));
  if (lengths.size === 0) return 'until the end';
  const [text = ''] = lengths;
  const length = Number(text);
  if (lengths.size > 1 || !/^\d{1,16}$/.test(text) || !Number.isSafeInteger(length))
    throw bad(`content-length ${JSON.stringify([...lengths].join(', ').slice(0, 100))}`);
  return length;
}

/** Whether the connection can be used for another request after the body. */
export function isKeptAlive({ minor, headers }: ResponseHead): boolean {
  const tokens = (headers.get('connection') ?? [])
    .join(',')
    .toLowerCase()
    .split(/[\s,]+/);
  return minor === 1 ? !tokens.includes('close') : tokens.includes('keep-alive');
}
