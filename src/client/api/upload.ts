import type { Upload } from './types.ts';

const URL_PREFIX = 'http://buildkit-session/';

/**
 * Lets one build read a stream: pass it in `uploads`, and its `url` as the context of a frontend or as an http source.
 * It is read when the build asks for it, once.
 */
export function upload(stream: AsyncIterable<Uint8Array>): Upload {
  return Object.freeze({ url: `${URL_PREFIX}${crypto.randomUUID()}`, stream });
}

/**
 * The name by which the daemon asks for it; undefined for one that `upload` has not made.
 * @internal
 */
export function uploadId({ url }: Upload): string | undefined {
  return url.startsWith(URL_PREFIX) ? url.slice(URL_PREFIX.length) : undefined;
}
