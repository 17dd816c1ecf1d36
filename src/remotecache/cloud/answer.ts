import { BuildError } from '../../base/errors.ts';
import type { HttpResponse } from '../../registry/response.ts';
import { StoreError } from './errors.ts';

/** The body, at most `maxBytes` of it. @throws an error worth another try when it ends too early */
export async function wholeBody(response: HttpResponse, maxBytes: number): Promise<Uint8Array> {
  const data = await response.bytes(maxBytes);
  if (data.length < Math.min(response.contentLength, maxBytes))
    throw Object.assign(new Error('answer ended too early'), { code: 'ECONNRESET' });
  return data;
}

/** What an answer says that is no good, with what to do about it where `hints` knows that by its reason. */
export function refusal(
  text: string,
  response: HttpResponse,
  reason: string,
  hints: Readonly<Record<string, string>>,
): BuildError {
  const seconds = Number(response.header('retry-after') ?? '');
  const retryAfterMs = seconds > 0 ? seconds * 1000 : 0;
  const error = new StoreError(text, { status: response.status, reason, retryAfterMs });
  const hint = hints[reason];
  return hint === undefined ? error : new BuildError(text, { code: error.code, cause: error, hint });
}
