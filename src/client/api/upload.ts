import { Uploads } from '../../session/host/upload.ts';
import { invalidArgument } from '../../base/errors.ts';
import type { Upload } from './types.ts';

const made = new WeakMap<Upload, string>();
const URL_PREFIX = 'http://buildkit-session/';

/**
 * Lets one build read a stream: pass it in `uploads`, and its `url` as the context of a frontend or as an http source.
 * It is read when the build asks for it, once.
 */
export function upload(stream: AsyncIterable<Uint8Array>): Upload {
  const id = crypto.randomUUID();
  const one = Object.freeze({ url: `${URL_PREFIX}${id}`, stream });
  made.set(one, id);
  return one;
}

export function uploadsOf(all: readonly Upload[]): Uploads {
  const uploads = new Uploads();
  for (const one of all) {
    const id = made.get(one);
    if (id === undefined) throw invalidArgument('uploads must be made by upload()');
    uploads.add(one.stream, id);
  }
  return uploads;
}
