import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError } from '../../base/errors.ts';
import { Metadata } from '../../rpc/metadata.ts';
import type { MessageStream } from '../../rpc/types.ts';
import type { FsPacket } from '../fsutil/packet.ts';
import { type ReceiveOptions, receiveTree } from '../fsutil/receiver.ts';
import { methodPath, type Session } from '../manager.ts';
import {
  DIR_NAME,
  ENCODED_SUFFIX,
  encodeHeaderValues,
  EXCLUDE_PATTERNS,
  FileSyncDefinition,
  FOLLOW_PATHS,
  INCLUDE_PATTERNS,
} from '../wire.ts';

/** Time for a last packet to be read by the other side before the call is cut. */
const FAREWELL_MS = 1_000;

export interface LocalRequest {
  /** Name under which the client offers the folder. */
  readonly name: string;
  readonly includePatterns?: readonly string[];
  readonly excludePatterns?: readonly string[];
  readonly followPaths?: readonly string[];
}

/**
 * Makes `dest` equal to a folder of the client, as far as the patterns select it (FEATURES C6-C11).
 * Aborting `signal` stops the work; `dest` then holds a part. @throws BuildError
 */
export async function receiveLocal(
  session: Session,
  request: LocalRequest,
  dest: string,
  options: ReceiveOptions & { readonly signal: AbortSignal },
): Promise<void> {
  if (!session.supports(methodPath(FileSyncDefinition, 'diffCopy')))
    throw new BuildError('no local sources enabled');
  const metadata = new Metadata();
  const put = (key: string, values: readonly string[]): void => {
    const { values: safe, encoded } = encodeHeaderValues(values);
    for (const value of safe) metadata.append(key, value);
    if (encoded) metadata.append(`${key}${ENCODED_SUFFIX}`, '1');
  };
  put(INCLUDE_PATTERNS, request.includePatterns ?? []);
  put(EXCLUDE_PATTERNS, request.excludePatterns ?? []);
  put(FOLLOW_PATHS, request.followPaths ?? []);
  put(DIR_NAME, [request.name]);
  const call = session.client(FileSyncDefinition).diffCopy({ metadata, signal: options.signal });
  await endingCall(call, () => receiveTree(call, dest, options));
}

/** Runs a transfer on `call`; after a failure the other side gets a moment to read why before the call is cut. */
export async function endingCall(
  call: MessageStream<FsPacket, FsPacket>,
  transfer: () => Promise<void>,
): Promise<void> {
  try {
    await transfer();
  } catch (error) {
    if (!call.signal.aborted) {
      call.end();
      const drained = (async () => {
        while ((await call.receive()) !== undefined);
      })().catch(() => {});
      await Promise.race([drained, sleep(FAREWELL_MS, undefined, { ref: false })]);
    }
    call.cancel();
    throw error;
  }
}
