import { BuildError } from '../../base/errors.ts';
import { Metadata } from '../../rpc/metadata.ts';
import { sendTree } from '../fsutil/sender.ts';
import { type SendPart, sendSideBySide } from '../fsutil/side-by-side.ts';
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

export interface DirectorySendRequest extends FileSendRequest {
  /** The tree holds all platforms, so that what it does not hold may be removed. */
  readonly mirror?: boolean;
  readonly onProgress?: (bytes: number, done: boolean) => void;
}

/**
 * Sends a tree to the client's directory target. Receivers make files one after the other, so a large tree goes in
 * parts, each in a call of its own, as upstream does with the platforms of a build.
 */
export async function sendDirectory(
  session: Session,
  source: TreeSource,
  request: DirectorySendRequest,
): Promise<void> {
  requireFileSend(session);
  const { onProgress, signal } = request;
  const metadata = Metadata.of({ [EXPORTER_ID]: String(request.exporterId) });
  if (request.mirror) metadata.append(EXPORTER_MULTI_PLATFORM, '1');
  const send: SendPart = async (part, options) => {
    const call = session.client(DirSendDefinition).diffCopy({ metadata, signal: options.signal });
    await endingCall(call, async () => {
      await sendTree(call, part, options);
      call.end();
      while ((await call.receive()) !== undefined);
    });
  };
  const parts = request.mirror ? undefined : await source.parts?.(signal);
  if (parts) await sendSideBySide(parts, send, { signal, ...(onProgress && { onProgress }) });
  else await send(source, { signal, ...(onProgress && { onProgress }) });
}
