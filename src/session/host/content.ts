import { type Digest, isDigest } from '../../base/digest.ts';
import { BuildError, Code, hasCode, invalidArgument, notFound } from '../../base/errors.ts';
import {
  ContentDefinition,
  WriteAction,
  type WriteContentRequest,
  type WriteContentResponse,
} from '../../pb/content.ts';
import { type RegisteredService, service } from '../../rpc/server.ts';
import type { MessageStream, ServerCall } from '../../rpc/types.ts';
import type { RemoteBlobWriter, RemoteContent } from '../content.ts';
import { infoToWire, statusToWire } from '../content-wire.ts';
import { STORE_ID } from '../wire.ts';

/** Blob infos in one message of a listing. */
const LIST_BATCH = 100;

/** Lends content stores by id (FEATURES C22). */
export function contentService(stores: ReadonlyMap<string, RemoteContent>): RegisteredService {
  const storeOf = (call: ServerCall): RemoteContent => {
    const id = call.metadata.get(STORE_ID);
    if (id === undefined) throw invalidArgument(`request lacks metadata ${JSON.stringify(STORE_ID)}`);
    const store = stores.get(id);
    if (!store) throw notFound(`unknown store ${id}`);
    return store;
  };
  return service(ContentDefinition, {
    info: async ({ digest }, call) => ({ info: infoToWire(await storeOf(call).info(checked(digest))) }),
    update: async ({ info, updateMask }, call) => {
      if (!info) throw invalidArgument('no info to update');
      const all = info.labels;
      const paths = updateMask && updateMask.length > 0 ? updateMask : ['labels'];
      const labels: Record<string, string> = {};
      for (const path of paths) {
        if (path === 'labels') Object.assign(labels, all);
        else if (path.startsWith('labels.')) labels[path.slice(7)] = all[path.slice(7)] ?? '';
        else throw invalidArgument(`cannot update ${JSON.stringify(path)} field on content info`);
      }
      return { info: infoToWire(await storeOf(call).updateLabels(checked(info.digest), labels)) };
    },
    list: async function* (_request, call) {
      let batch = [];
      for await (const info of storeOf(call).list(call.signal)) {
        batch.push(infoToWire(info));
        if (batch.length < LIST_BATCH) continue;
        yield { info: batch };
        batch = [];
      }
      if (batch.length > 0) yield { info: batch };
    },
    delete: async ({ digest }, call) => {
      await storeOf(call).delete(checked(digest));
      return {};
    },
    read: async function* (request, call) {
      const store = storeOf(call);
      const digest = checked(request.digest);
      const { size } = await store.info(digest);
      const offset = Math.max(0, Number(request.offset));
      if (offset > size)
        throw new BuildError(`read past object length ${size} bytes`, { code: Code.outOfRange });
      const asked = Number(request.size);
      const length = asked <= 0 || offset + asked > size ? size - offset : asked;
      let sent = 0;
      if (length === 0) return;
      for await (const data of store.read(digest, { offset, length, signal: call.signal })) {
        yield { offset: BigInt(sent), data };
        sent += data.byteLength;
      }
    },
    status: async ({ ref }, call) => {
      const found = (await storeOf(call).ingests()).find((ingest) => ingest.ref === ref);
      if (!found) throw notFound(`could not get status for ref ${JSON.stringify(ref)}: not found`);
      return { status: statusToWire(found) };
    },
    listStatuses: async (_request, call) => ({
      statuses: (await storeOf(call).ingests()).map(statusToWire),
    }),
    write: (stream, call) => serveWriter(stream, storeOf(call)),
    abort: async ({ ref }, call) => {
      await storeOf(call).abortIngest(ref);
      return {};
    },
  });
}

function checked(digest: string): Digest {
  if (!isDigest(digest)) throw invalidArgument(`${JSON.stringify(digest)} failed validation`);
  return digest;
}

async function exists(store: RemoteContent, digest: Digest): Promise<boolean> {
  try {
    await store.info(digest);
    return true;
  } catch (error) {
    if (hasCode(error, Code.notFound)) return false;
    throw error;
  }
}

type WriteStream = MessageStream<WriteContentRequest, WriteContentResponse>;

async function serveWriter(stream: WriteStream, store: RemoteContent): Promise<void> {
  let request = await stream.receive();
  if (!request) return;
  const { ref } = request;
  if (ref === '') throw invalidArgument('first message must have a reference');
  let total = Number(request.total);
  let expected = request.expected === '' ? undefined : checked(request.expected);
  await using writer = await store.writer({ ref, total, ...(expected && { expected }) });
  const startedAt = { seconds: BigInt(Math.floor(Date.now() / 1000)), nanos: 0 };
  for (; request; request = await stream.receive()) {
    if (request.expected !== '') {
      expected = checked(request.expected);
      if (await exists(store, expected)) {
        await writer[Symbol.asyncDispose]();
        await store.abortIngest(ref);
        throw new BuildError(`blob with expected digest ${expected} exists`, { code: Code.alreadyExists });
      }
    }
    if (request.total > 0n) total = Number(request.total);
    const digest = request.action === WriteAction.STAT ? '' : await apply(writer, request, total, expected);
    const common = { action: request.action, digest, total: BigInt(total), startedAt, updatedAt: startedAt };
    await stream.send({ ...common, offset: BigInt(writer.offset) });
    if (request.action === WriteAction.COMMIT) return;
  }
}

/** Writes, and commits when asked to. Returns the digest then, '' before. */
async function apply(
  writer: RemoteBlobWriter,
  request: WriteContentRequest,
  total: number,
  expected: Digest | undefined,
): Promise<string> {
  const offset = Number(request.offset);
  if (offset > 0 && offset !== writer.offset)
    throw new BuildError(`write @${offset} must occur at current offset ${writer.offset}`, {
      code: Code.outOfRange,
    });
  if (offset === 0 && writer.offset > 0) await writer.truncate(0);
  if (request.data.byteLength > 0) await writer.write(request.data);
  if (request.action !== WriteAction.COMMIT) return '';
  return await writer.commit({
    ...(total > 0 && { size: total }),
    ...(expected && { digest: expected }),
    labels: request.labels,
  });
}
