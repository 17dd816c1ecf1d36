import { BuildError, Code, isCanceled } from '../base/errors.ts';
import type { HttpResponse } from './response.ts';
import { Backoff } from './retry.ts';
import type { RegistryContext } from './session.ts';

/** New connections one transfer may need while bytes keep coming. */
const MAX_RESUMES = 100;

/** What is downloaded, in the words of errors; its size in bytes. */
export interface Download {
  readonly name: string;
  readonly size: number;
}

/** The bytes from `offset` on; `open` asks for an answer that starts at a place, again where one broke. */
export async function* resumed(
  open: (at: number) => Promise<HttpResponse>,
  download: Download,
  offset: number,
  context: Pick<RegistryContext, 'signal' | 'log'>,
): AsyncGenerator<Uint8Array, void> {
  if (offset >= download.size && download.size > 0) return;
  const backoff = new Backoff(context);
  let at = offset;
  for (let opened = 0; ; opened++) {
    const start = at;
    try {
      for await (const chunk of bodyFrom(await open(at), at)) {
        at += chunk.length;
        if (at > download.size) throw tooLong(download);
        yield chunk;
      }
      if (at < download.size) throw cutShort(download, at);
      return;
    } catch (error) {
      if (isCanceled(error) || opened >= MAX_RESUMES) throw error;
      if (at > start) backoff.reset();
      await backoff.pause(error);
    }
  }
}

function cutShort({ name, size }: Download, at: number): BuildError {
  const cause = Object.assign(new Error('unexpected EOF'), { code: 'ECONNRESET' });
  return new BuildError(`failed to copy: ${name} ended after ${at} of ${size} bytes: unexpected EOF`, {
    code: Code.unavailable,
    cause,
  });
}

function tooLong({ name, size }: Download): BuildError {
  return new BuildError(`${name} is longer than its ${size} bytes`, { code: Code.failedPrecondition });
}

/** The bytes from `offset` on of an answer to a request for them. */
async function* bodyFrom(response: HttpResponse, offset: number): AsyncGenerator<Uint8Array, void> {
  let skip = await bytesToSkip(response, offset);
  for await (const chunk of response.body()) {
    const rest = skip > 0 ? chunk.subarray(Math.min(skip, chunk.length)) : chunk;
    skip -= chunk.length - rest.length;
    if (rest.length > 0) yield rest;
  }
}

/** A server that ignores Range sends everything again. */
async function bytesToSkip(response: HttpResponse, offset: number): Promise<number> {
  if (offset === 0) return 0;
  const range = response.header('content-range');
  if (range === undefined) return response.status === 206 ? 0 : offset;
  if (range.startsWith(`bytes ${offset}-`)) return 0;
  await response.discard();
  throw new BuildError(`unhandled content range in response: ${range}`);
}
