import { BuildError } from '../../base/errors.ts';
import { Metadata } from '../../rpc/metadata.ts';
import { sendTree } from '../fsutil/sender.ts';
import type { TreeSource } from '../fsutil/source.ts';
import { methodPath, type Session } from '../manager.ts';
import {
  DirSendDefinition,
  EXPORTER_ID,
  EXPORTER_METADATA_PREFIX,
  EXPORTER_MULTI_PLATFORM,
  FileSendDefinition,
} from '../wire.ts';
import { endingCall } from './filesync.ts';

/** Bytes per message; other implementations refuse more than 4 MiB. */
const MAX_CHUNK_BYTES = 1 << 20;

export interface FileSendRequest {
  /** Index of the exporter in the build's request; names the client's target. */
  readonly exporterId: number;
  readonly signal: AbortSignal;
}

function requireFileSend(session: Session): void {
  const method = methodPath(DirSendDefinition, 'diffCopy');
  if (!session.supports(method)) throw new BuildError(`method ${method} not supported by the client`);
}

/** Where an exporter writes one file to, for a client (FEATURES C14). */
export interface FileSendWriter extends AsyncDisposable {
  /** Resolves when there is room for more. */
  write(chunk: Uint8Array): Promise<void>;
  /** Ends the file and waits until the client has it. */
  close(): Promise<void>;
}

/**
 * Opens the client's file target. Not closing it in order before disposal cancels the transfer.
 * @throws BuildError, with code alreadyExists when the client wants to skip it (at the first write or at close)
 */
export function openFileSend(
  session: Session,
  request: FileSendRequest & { readonly metadata?: Readonly<Record<string, string>> },
): FileSendWriter {
  requireFileSend(session);
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(request.metadata ?? {}))
    metadata.append(`${EXPORTER_METADATA_PREFIX}${key}`, value);
  metadata.append(EXPORTER_ID, String(request.exporterId));
  const call = session.client(FileSendDefinition).diffCopy({ metadata, signal: request.signal });
  let closed = false;
  return {
    async write(chunk) {
      for (let at = 0; at < chunk.byteLength; at += MAX_CHUNK_BYTES) {
        try {
          await call.send({ data: chunk.subarray(at, at + MAX_CHUNK_BYTES) });
        } catch (error) {
          // The client has ended the call: its status says why.
          await call.receive();
          throw error;
        }
      }
    },
    async close() {
      call.end();
      while ((await call.receive()) !== undefined);
      closed = true;
    },
    async [Symbol.asyncDispose]() {
      if (!closed) call.cancel();
    },
  };
}

/** Sends a tree to the client's directory target. `mirror`: it holds all platforms, so that others may be removed. */
export async function sendDirectory(
  session: Session,
  source: TreeSource,
  request: FileSendRequest & {
    readonly mirror?: boolean;
    readonly onProgress?: (bytes: number, done: boolean) => void;
  },
): Promise<void> {
  requireFileSend(session);
  const metadata = Metadata.of({ [EXPORTER_ID]: String(request.exporterId) });
  if (request.mirror) metadata.append(EXPORTER_MULTI_PLATFORM, '1');
  const call = session.client(DirSendDefinition).diffCopy({ metadata, signal: request.signal });
  await endingCall(call, async () => {
    await sendTree(call, source, { ...(request.onProgress && { onProgress: request.onProgress }) });
    call.end();
    while ((await call.receive()) !== undefined);
  });
}
