import { BuildError, isCanceled } from '../../base/errors.ts';
import { Semaphore } from '../../base/semaphore.ts';
import type { LayerProgress } from '../../cache/ref.ts';
import { together } from '../../cache/together.ts';
import type { HttpClient } from '../../registry/http.ts';
import { resumed } from '../../registry/resume.ts';
import type { VertexProgress } from '../../solver/types.ts';
import { isReason, storeError } from '../cloud/errors.ts';
import { askingOnce } from '../cloud/known.ts';
import { sendParts } from '../cloud/parts.ts';
import { failing } from '../export.ts';
import type { ObjectOrigin, ObjectSink } from '../object-cache.ts';
import { type AzblobConfig, parseAzblobAttrs } from './attrs.ts';
import { AzblobClient, type AzblobRequest } from './client.ts';
import { type Env, tokenSource } from './token.ts';

/** Blocks of an upload, bytes; larger ones for blobs of more than 400 GB. */
export const BLOCK_BYTES = 8 << 20;
const MAX_BLOCKS = 50_000;
/** Ids of a blob are all of one length, also those that an upload of Azure's Go client has left behind. */
const BLOCK_ID_BYTES = 64;
/** Layers, and blocks, that are sent at once. */
const PARALLEL = 4;

export interface AzblobCacheServices {
  readonly http: Pick<HttpClient, 'send'>;
  /** Of the daemon. */
  readonly env: Env;
  readonly layerProgress: (progress: VertexProgress) => LayerProgress;
}

type Attrs = Readonly<Record<string, string>>;

/** Puts a cache into a container; `prepare` makes that when it is missing (FEATURES K19, K20). @throws BuildError */
export function azblobSink(
  attrs: Attrs,
  services: AzblobCacheServices,
): ObjectSink & { prepare(signal: AbortSignal): Promise<void> } {
  const place = open(attrs, services);
  const { config, client } = place;
  const slots = new Semaphore(PARALLEL);
  let ready = false;
  const prepare = async (signal: AbortSignal): Promise<void> => {
    if (!ready) await ensureContainer(place, signal);
    ready = true;
  };
  return {
    parallel: PARALLEL,
    prepare,
    has: async ({ digest }, { signal }) => {
      await prepare(signal);
      return await isThere(client, config.blobKey(digest), signal);
    },
    put: async ({ digest, size: sizeBytes }, content, { signal }) => {
      const partBytes = Math.max(BLOCK_BYTES, Math.ceil(sizeBytes / MAX_BLOCKS));
      const parts = { sizeBytes, partBytes, slots, signal };
      const key = config.blobKey(digest);
      try {
        await putBlob(client, key, content(0), parts);
      } catch (error) {
        if (!isReason(error, 'BlobAlreadyExists')) throw error; // another build was faster
      }
    },
    putConfig: async (json, { signal }) => {
      await prepare(signal);
      for (const name of config.names)
        await failing(`error writing manifest ${name}`, () =>
          done(client, putRequest(config.manifestKey(name), json), signal),
        );
    },
  };
}

/** Reads the caches of all names from a container. @throws BuildError for bad attributes and a container that fails */
export async function azblobOrigin(
  attrs: Attrs,
  services: AzblobCacheServices,
  signal: AbortSignal,
): Promise<ObjectOrigin> {
  const place = open(attrs, services);
  const { config, client } = place;
  await ensureContainer(place, signal);
  const get = (key: string, offset: number, own: AbortSignal) => {
    const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
    return client.send({ operation: 'GetBlob', method: 'GET', key, headers }, own);
  };
  const has = askingOnce((digest, own) => isThere(client, config.blobKey(digest), own));
  return {
    configs: (maxBytes, context) =>
      together(
        config.names.map(
          (name) => (own: AbortSignal) =>
            failing(`failed to load cache manifest ${name}`, () =>
              readSmall(client, config.manifestKey(name), maxBytes, own),
            ),
        ),
        context.signal,
      ),
    provider: ({ progress }) => ({
      open: ({ digest, size }, offset, { signal: own }) =>
        resumed((at) => get(config.blobKey(digest), at, own), { name: digest, size }, offset, {
          signal: own,
        }),
      has,
      progress: services.layerProgress(progress),
    }),
  };
}

interface Place {
  readonly config: AzblobConfig;
  readonly client: AzblobClient;
}

function open(attrs: Attrs, { http, env }: AzblobCacheServices): Place {
  try {
    const config = parseAzblobAttrs(attrs, env);
    return { config, client: new AzblobClient(config, http, tokenSource({ http, env })) };
  } catch (error) {
    throw BuildError.wrap(error, 'failed to create azblob config');
  }
}

function ensureContainer(place: Place, signal: AbortSignal): Promise<void> {
  return failing('failed to create container client', () => findOrMake(place, signal));
}

async function findOrMake({ config, client }: Place, signal: AbortSignal): Promise<void> {
  const query = { restype: 'container' };
  try {
    await done(client, { operation: 'GetContainerProperties', method: 'GET', query }, signal);
    return;
  } catch (error) {
    if (isCanceled(error)) throw error;
    if (!isReason(error, 'ContainerNotFound'))
      throw BuildError.wrap(error, `failed to get properties of cache container ${config.container}`);
  }
  try {
    await done(client, { operation: 'CreateContainer', method: 'PUT', query }, signal);
  } catch (error) {
    if (isReason(error, 'ContainerAlreadyExists')) return; // another build was faster
    throw BuildError.wrap(error, `failed to create cache container ${config.container}`);
  }
}

async function isThere(client: AzblobClient, key: string, signal: AbortSignal): Promise<boolean> {
  try {
    await done(client, { operation: 'GetBlobProperties', method: 'HEAD', key }, signal);
    return true;
  } catch (error) {
    if (isReason(error, 'BlobNotFound')) return false;
    throw BuildError.wrap(error, `failed to check blob ${key} existence`);
  }
}

/** undefined when it is not there. */
async function readSmall(
  client: AzblobClient,
  key: string,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  try {
    const data = await client.bytes({ operation: 'GetBlob', method: 'GET', key }, maxBytes + 1, signal);
    if (data.length > maxBytes)
      throw new BuildError(`${client.nameOf(key)} is larger than ${maxBytes} bytes`);
    return data;
  } catch (error) {
    if (storeError(error)?.status === 404 && isReason(error, 'BlobNotFound')) return undefined;
    throw error;
  }
}

const NEW = { 'if-none-match': '*' };

function putRequest(
  key: string,
  body: Uint8Array,
  headers: Readonly<Record<string, string>> = {},
): AzblobRequest {
  return {
    operation: 'PutBlob',
    method: 'PUT',
    key,
    headers: { ...headers, 'x-ms-blob-type': 'BlockBlob' },
    body,
  };
}

/** A blob that is not there yet; one of several blocks appears when the list of them is put. */
async function putBlob(
  client: AzblobClient,
  key: string,
  content: AsyncIterable<Uint8Array>,
  parts: Parameters<typeof sendParts>[1],
): Promise<void> {
  if (parts.sizeBytes <= parts.partBytes) {
    await sendParts(content, parts, (body, _, own) => done(client, putRequest(key, body, NEW), own));
    return;
  }
  const ids = await sendParts(content, parts, async (body, index, own) => {
    const blockid = Buffer.from(String(index).padStart(BLOCK_ID_BYTES, '0')).toString('base64');
    const query = { comp: 'block', blockid };
    await done(client, { operation: 'PutBlock', method: 'PUT', key, query, body }, own);
    return blockid;
  });
  const latest = ids.map((id) => `<Latest>${id}</Latest>`).join('');
  const body = Buffer.from(`<?xml version="1.0" encoding="utf-8"?><BlockList>${latest}</BlockList>`);
  const query = { comp: 'blocklist' };
  await done(
    client,
    { operation: 'PutBlockList', method: 'PUT', key, query, headers: NEW, body },
    parts.signal,
  );
}

async function done(client: AzblobClient, request: AzblobRequest, signal: AbortSignal): Promise<void> {
  await (await client.send(request, signal)).discard();
}
