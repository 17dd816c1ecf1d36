import { randomUUID } from 'node:crypto';
import { BuildError } from '../../base/errors.ts';
import { type RegisteredService, service } from '../../rpc/server.ts';
import { UPLOAD_HOST, UPLOAD_PATH, UploadDefinition } from '../wire.ts';

const URL_HOST = 'buildkit-session';
const MAX_CHUNK_BYTES = 1 << 20;

/** Streams offered to the daemon's http source, each read once (FEATURES C21). */
export class Uploads {
  readonly #streams = new Map<string, AsyncIterable<Uint8Array>>();

  /** URL under which a build can read `stream`. */
  add(stream: AsyncIterable<Uint8Array>, id: string = randomUUID()): string {
    this.#streams.set(id, stream);
    return `http://${URL_HOST}/${id}`;
  }

  service(): RegisteredService {
    return service(UploadDefinition, {
      pull: async (call, { metadata }) => {
        const path = metadata.get(UPLOAD_PATH);
        if (path === undefined || metadata.get(UPLOAD_HOST) === undefined)
          throw new BuildError('no path in request');
        const id = path.replace(/^.*\//, '');
        const stream = this.#streams.get(id);
        if (!stream) throw new BuildError(`no http response from session for ${id}`);
        this.#streams.delete(id);
        for await (const chunk of stream)
          for (let at = 0; at < chunk.byteLength; at += MAX_CHUNK_BYTES)
            await call.send({ data: chunk.subarray(at, at + MAX_CHUNK_BYTES) });
      },
    });
  }
}
