import { BuildError, Code } from '../../base/errors.ts';
import { makeDirs } from '../../base/make-dirs.ts';
import { bytesCodec } from '../../rpc/bytes-message.ts';
import { type RegisteredService, service } from '../../rpc/server.ts';
import type { MessageStream, ServerCall } from '../../rpc/types.ts';
import { type FsPacket, packetCodec } from '../fsutil/packet.ts';
import { receiveTree } from '../fsutil/receiver.ts';
import {
  EXPORTER_ID,
  EXPORTER_METADATA_PREFIX,
  EXPORTER_MULTI_PLATFORM,
  RawFileSendDefinition,
} from '../wire.ts';

/** Something a file export is written to. */
export interface FileSink {
  write(chunk: Uint8Array): Promise<void>;
  /** Everything has arrived. */
  close(): Promise<void>;
  /** The transfer failed; what was written is worthless. */
  abort(reason: unknown): Promise<void>;
}

export type ExportTarget =
  /** A tree, written into `dir` beside what is there, or with `mirror` in place of it. */
  | { readonly kind: 'directory'; readonly dir: string; readonly mirror?: boolean }
  /** One file. `open` gets the exporter's metadata, and undefined from it skips the transfer. */
  | {
      readonly kind: 'file';
      readonly open: (metadata: Readonly<Record<string, string>>) => Promise<FileSink | undefined>;
    };

export interface FileSendOptions {
  /** Owner of received files. */
  readonly uid: number;
  readonly gid: number;
}

/** Takes what exporters send, by exporter index (FEATURES C14). */
export function fileSendService(
  targets: ReadonlyMap<number, ExportTarget>,
  options: FileSendOptions,
): RegisteredService {
  return service(RawFileSendDefinition, {
    diffCopy: async (stream, call) => {
      const id = Number.parseInt(call.metadata.get(EXPORTER_ID) ?? '0', 10) || 0;
      const target = targets.get(id);
      if (!target) throw new BuildError(`exporter ${id} not found`);
      if (target.kind === 'directory') await receiveDirectory(stream, call, target, options);
      else await receiveFile(stream, call, target);
    },
  });
}

async function receiveDirectory(
  stream: MessageStream<Uint8Array, Uint8Array>,
  call: ServerCall,
  target: Extract<ExportTarget, { kind: 'directory' }>,
  owner: FileSendOptions,
): Promise<void> {
  if (target.mirror && !call.metadata.getAll(EXPORTER_MULTI_PLATFORM).includes('1'))
    throw new BuildError(
      'local exporter mode=delete requires a BuildKit daemon with multi-platform local export support',
    );
  makeDirs(target.dir, 0o700);
  await receiveTree(packetsOver(stream), target.dir, {
    merge: !target.mirror,
    differ: target.mirror ? 'none' : 'metadata',
    drain: false,
    map: (stat) => {
      stat.uid = owner.uid;
      stat.gid = owner.gid;
    },
  });
}

/** The same call with its messages read and written as packets. */
function packetsOver(stream: MessageStream<Uint8Array, Uint8Array>): MessageStream<FsPacket, FsPacket> {
  const receive = async (): Promise<FsPacket | undefined> => {
    const bytes = await stream.receive();
    return bytes && packetCodec.decode(bytes);
  };
  return {
    receive,
    send: (packet) => stream.send(packetCodec.encode(packet).finish()),
    end: () => stream.end(),
    cancel: (reason) => stream.cancel(reason),
    signal: stream.signal,
    async *[Symbol.asyncIterator]() {
      for (let packet = await receive(); packet; packet = await receive()) yield packet;
    },
  };
}

async function receiveFile(
  stream: MessageStream<Uint8Array, Uint8Array>,
  call: ServerCall,
  target: Extract<ExportTarget, { kind: 'file' }>,
): Promise<void> {
  const metadata: Record<string, string> = {};
  for (const [key, value] of call.metadata) {
    if (!key.startsWith(EXPORTER_METADATA_PREFIX)) continue;
    const name = key.slice(EXPORTER_METADATA_PREFIX.length);
    metadata[name] = name in metadata ? `${metadata[name]},${value}` : value;
  }
  const sink = await target.open(metadata);
  if (!sink) throw new BuildError('target already exists', { code: Code.alreadyExists });
  try {
    for await (const bytes of stream) {
      const { data } = bytesCodec.decode(bytes);
      if (data.byteLength > 0) await sink.write(data);
    }
    if (stream.signal.aborted) throw stream.signal.reason;
    await sink.close();
  } catch (error) {
    await sink.abort(error);
    throw error;
  }
}
