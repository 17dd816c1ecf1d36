import { type Digest, isDigest } from '../../base/digest.ts';
import { BuildError, Code, hasCode } from '../../base/errors.ts';
import {
  ContentDefinition,
  WriteAction,
  WriteContentRequest,
  type WriteContentResponse,
} from '../../pb/content.ts';
import { Metadata } from '../../rpc/metadata.ts';
import type { CallOptions, MessageStream } from '../../rpc/types.ts';
import type { RemoteBlobWriter, RemoteContent } from '../content.ts';
import { infoFromWire, statusFromWire } from '../content-wire.ts';
import { methodPath, type Session } from '../manager.ts';
import { STORE_ID } from '../wire.ts';

const MAX_CHUNK_BYTES = 1 << 20;

/** The client's content store called `storeId`: `local:<dir>`, `oci:<name>` or `export` (FEATURES C22). */
export function sessionContent(session: Session, storeId: string): RemoteContent {
  const method = methodPath(ContentDefinition, 'info');
  if (!session.supports(method)) throw new BuildError(`method ${method} not supported by the client`);
  const client = session.client(ContentDefinition);
  const options = (signal?: AbortSignal): CallOptions => ({
    metadata: Metadata.of({ [STORE_ID]: storeId }),
    signal: signal ? AbortSignal.any([signal, session.signal]) : session.signal,
  });
  return {
    info: async (digest, signal) => infoFromWire((await client.info({ digest }, options(signal))).info),
    async *read(digest, { offset = 0, length = 0, signal } = {}) {
      const request = { digest, offset: BigInt(offset), size: BigInt(length) };
      for await (const { data } of client.read(request, options(signal))) if (data.byteLength > 0) yield data;
    },
    writer: async ({ ref, total = 0, expected, signal }) => {
      const call = client.write(options(signal));
      const first = await exchange(call, {
        action: WriteAction.STAT,
        ref,
        total: BigInt(total),
        expected: expected ?? '',
      });
      return new Writer(call, Number(first.offset));
    },
    async *list(signal) {
      for await (const { info } of client.list({ filters: [] }, options(signal)))
        for (const one of info) yield infoFromWire(one);
    },
    ingests: async (signal) =>
      (await client.listStatuses({ filters: [] }, options(signal))).statuses.map(statusFromWire),
    abortIngest: async (ref, signal) => void (await client.abort({ ref }, options(signal))),
    delete: async (digest, signal) => void (await client.delete({ digest }, options(signal))),
    updateLabels: async (digest, labels, signal) => {
      const info = { digest, size: 0n, createdAt: undefined, updatedAt: undefined, labels: { ...labels } };
      const updateMask = Object.keys(labels).map((label) => `labels.${label}`);
      return infoFromWire((await client.update({ info, updateMask }, options(signal))).info);
    },
  };
}

/** Puts one blob into a client's store. One that is there already is no error. */
export async function putBlob(
  store: Pick<RemoteContent, 'writer'>,
  blob: { readonly digest: Digest; readonly size: number },
  data: AsyncIterable<Uint8Array>,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const { digest, size } = blob;
  try {
    await using writer = await store.writer({
      ref: `export-${digest}`,
      total: size,
      expected: digest,
      signal,
    });
    if (writer.offset > 0) await writer.truncate(0);
    for await (const chunk of data) await writer.write(chunk);
    await writer.commit({ size, digest });
  } catch (error) {
    if (!hasCode(error, Code.alreadyExists)) throw error;
  }
}

type WriteCall = MessageStream<WriteContentResponse, WriteContentRequest>;

async function exchange(
  call: WriteCall,
  request: Partial<WriteContentRequest>,
): Promise<WriteContentResponse> {
  // A failed send has its reason in the call's status, which receive() throws.
  await call.send(WriteContentRequest.fromPartial(request)).catch(() => {});
  const response = await call.receive();
  if (!response) throw new BuildError('content writer ended early', { code: Code.unavailable });
  return response;
}

class Writer implements RemoteBlobWriter {
  readonly #call: WriteCall;
  #offset: number;
  #done = false;

  constructor(call: WriteCall, offset: number) {
    this.#call = call;
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  async write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.byteLength; at += MAX_CHUNK_BYTES) {
      const data = chunk.subarray(at, at + MAX_CHUNK_BYTES);
      const offset = BigInt(this.#offset);
      const response = await exchange(this.#call, { action: WriteAction.WRITE, offset, data });
      if (Number(response.offset) !== this.#offset + data.byteLength)
        throw new BuildError(`short write at ${this.#offset}: ${response.offset}`, { code: Code.dataLoss });
      this.#offset += data.byteLength;
    }
  }

  /** Takes effect with the next write; the protocol knows truncation to the start only. */
  async truncate(size: number): Promise<void> {
    if (size !== 0 && size !== this.#offset)
      throw new BuildError('a writer over a session can only start again', { code: Code.unimplemented });
    this.#offset = size;
  }

  async commit(options: Parameters<RemoteBlobWriter['commit']>[0]): Promise<Digest> {
    const response = await exchange(this.#call, {
      action: WriteAction.COMMIT,
      offset: BigInt(this.#offset),
      total: BigInt(options.size ?? 0),
      expected: options.digest ?? '',
      labels: { ...options.labels },
    });
    this.#call.end();
    this.#done = true;
    const { digest } = response;
    if (!isDigest(digest) || (options.digest !== undefined && digest !== options.digest))
      throw new BuildError(`unexpected digest: ${digest} != ${options.digest ?? 'a digest'}`, {
        code: Code.failedPrecondition,
      });
    return digest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#done) return;
    this.#call.end();
    this.#call.cancel();
  }
}
