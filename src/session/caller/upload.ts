import { BuildError } from '../../base/errors.ts';
import { Metadata } from '../../rpc/metadata.ts';
import { methodPath, type Session } from '../manager.ts';
import { UPLOAD_HOST, UPLOAD_PATH, UploadDefinition } from '../wire.ts';

/** Host part of URLs that name an upload of the client. */
export const UPLOAD_URL_HOST = 'buildkit-session';

/** Body of `http://buildkit-session/<id>`: a stream that the client offers once (FEATURES C21). */
export async function* pullUpload(
  session: Session,
  url: URL,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const method = methodPath(UploadDefinition, 'pull');
  if (!session.supports(method)) throw new BuildError(`method ${method} not supported by the client`);
  const metadata = Metadata.of({ [UPLOAD_PATH]: url.pathname, [UPLOAD_HOST]: url.host });
  const call = session.client(UploadDefinition).pull({ metadata, signal });
  try {
    for (;;) {
      const message = await call.receive();
      if (!message) return;
      if (message.data.byteLength > 0) yield message.data;
    }
  } finally {
    call.cancel();
  }
}
