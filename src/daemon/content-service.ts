import type { Digest } from '../base/digest.ts';
import { BuildError, Code, notFound } from '../base/errors.ts';
import type * as pb from '../pb/content.ts';
import { ContentDefinition } from '../pb/content.ts';
import { type RegisteredService, service } from '../rpc/server.ts';
import type { BlobInfo, ContentStore } from '../store/content.ts';
import { timestampOfDate } from './time-wire.ts';

const LIST_BATCH = 100;

/** The worker's blobs for clients, read-only (FEATURES B39). */
export function contentService(content: ContentStore): RegisteredService {
  const readOnly = (): never => {
    throw new BuildError('read-only content store', { code: Code.failedPrecondition });
  };
  return service(ContentDefinition, {
    info: async ({ digest }) => ({ info: infoToWire(lookUp(content, digest)) }),
    list: () => list(content),
    read: (request, call) => read(content, request, call.signal),
    status: async ({ ref }) => {
      throw notFound(`ingest ${ref}: not found`);
    },
    listStatuses: async () => ({ statuses: [] }),
    update: readOnly,
    delete: readOnly,
    write: readOnly,
    abort: readOnly,
  });
}

function lookUp(content: ContentStore, digest: string): BlobInfo {
  const info = content.info(digest as Digest);
  if (!info) throw notFound(`content ${digest}: not found`);
  return info;
}

function infoToWire(info: BlobInfo): pb.Info {
  return {
    digest: info.digest,
    size: BigInt(info.size),
    createdAt: timestampOfDate(info.createdAt),
    updatedAt: timestampOfDate(info.updatedAt),
    labels: { ...info.labels },
  };
}

async function* list(content: ContentStore): AsyncGenerator<pb.ListContentResponse> {
  let batch: pb.Info[] = [];
  for await (const info of content.list()) {
    batch.push(infoToWire(info));
    if (batch.length < LIST_BATCH) continue;
    yield { info: batch };
    batch = [];
  }
  if (batch.length > 0) yield { info: batch };
}

async function* read(
  content: ContentStore,
  request: pb.ReadContentRequest,
  signal: AbortSignal,
): AsyncGenerator<pb.ReadContentResponse> {
  const { digest } = lookUp(content, request.digest);
  let offset = Number(request.offset);
  const length = Number(request.size);
  for await (const data of content.read(digest, { offset, signal, ...(length > 0 ? { length } : {}) })) {
    yield { offset: BigInt(offset), data };
    offset += data.length;
  }
}
