import { readFile } from 'node:fs/promises';
import { BuildError } from '../../base/errors.ts';
import { connectionFailed, safeUrl } from '../../registry/errors.ts';
import { bytesBody, type HttpClient } from '../../registry/http.ts';
import { StoreError, xmlText } from './errors.ts';
import { Retrier } from './retry.ts';

/** What a service that gives credentials may answer, and what a file with a token may hold. */
const MAX_ANSWER_BYTES = 256 * 1024;

export interface Question {
  /** For errors: `EC2 instance metadata`. */
  readonly from: string;
  readonly method?: 'GET' | 'PUT' | 'POST';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as a form. */
  readonly form?: Readonly<Record<string, string>>;
  /** Of one try. */
  readonly timeoutMs: number;
  readonly attempts: number;
}

/** Text of the answer of a service that knows credentials. @throws BuildError without anything secret in its words */
export async function ask(
  http: Pick<HttpClient, 'send'>,
  question: Question,
  signal: AbortSignal,
): Promise<string> {
  return await new Retrier({ attempts: question.attempts }).run(signal, () =>
    askOnce(http, question, signal),
  );
}

async function askOnce(
  http: Pick<HttpClient, 'send'>,
  { from, method = 'GET', url, headers = {}, form, timeoutMs }: Question,
  signal: AbortSignal,
): Promise<string> {
  const body = form ? Buffer.from(new URLSearchParams(form).toString()) : undefined;
  const limit = AbortSignal.timeout(timeoutMs);
  try {
    const response = await http.send({
      method,
      url,
      headers: { ...headers, ...(body ? { 'content-type': 'application/x-www-form-urlencoded' } : {}) },
      keepRedirects: true,
      signal: AbortSignal.any([signal, limit]),
      ...(body ? { body: bytesBody(body) } : {}),
    });
    const text = Buffer.from(await response.bytes(MAX_ANSWER_BYTES)).toString();
    if (response.status < 300) return text;
    throw refused(response.status, text);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof StoreError) throw error;
    const cause = limit.aborted
      ? Object.assign(new Error(`no answer within ${timeoutMs / 1000} s`), { code: 'ETIMEDOUT' })
      : error;
    throw BuildError.wrap(connectionFailed(cause, method, url), from);
  }

  function refused(status: number, text: string): StoreError {
    const { reason, said } = problemOf(text);
    const words = [`${status}${reason === '' ? '' : ` ${reason}`}`, ...(said === '' ? [] : [said])];
    return new StoreError(`${from}: ${method} ${safeUrl(url)}: ${words.join(': ')}`, { status, reason });
  }
}

/** Errors of STS are XML, those of the others JSON. */
function problemOf(text: string): { reason: string; said: string } {
  const line = (value: unknown): string =>
    typeof value === 'string' ? value.split(/\r?\n/, 1)[0]!.slice(0, 500) : '';
  try {
    const { error, code, error_description, message } = JSON.parse(text);
    return { reason: line(error ?? code), said: line(error_description ?? message) };
  } catch {
    return { reason: xmlText(text, 'Code'), said: line(xmlText(text, 'Message')) };
  }
}

/** Fields of an answer that is JSON. @throws BuildError */
export function jsonFields(text: string, from: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Told below, without the text: it may hold secrets.
  }
  throw new BuildError(`${from}: the answer is no JSON object`);
}

/** A file with a token. @throws BuildError */
export async function readToken(path: string, what: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).slice(0, MAX_ANSWER_BYTES).trim();
  } catch (error) {
    throw BuildError.wrap(error, `failed to read ${what}`);
  }
}
