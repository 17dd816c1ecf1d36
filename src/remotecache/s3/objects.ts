import { BuildError } from '../../base/errors.ts';
import type { Semaphore } from '../../base/semaphore.ts';
import { type Download, resumed } from '../../registry/resume.ts';
import { escapeXml, storeError, xmlText } from '../cloud/errors.ts';
import { sendParts } from '../cloud/parts.ts';
import type { S3Client } from './client.ts';
import { encodePath } from './sigv4.ts';

/** Parts of an upload, bytes; larger ones for objects of more than 80 GB. */
export const PART_BYTES = 8 << 20;
const MAX_PARTS = 10_000;
/** What one copy may copy. */
const MAX_COPY_BYTES = 5 * 2 ** 30;
const ABORT_TIMEOUT_MS = 10_000;

export interface S3Object {
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
}

/** Objects of a bucket by their keys. */
export class S3Objects {
  readonly #client: S3Client;
  readonly #slots: Semaphore;
  readonly #maxCopyBytes: number;

  /** @param slots one for each part that is in memory */
  constructor(client: S3Client, slots: Semaphore, maxCopyBytes = MAX_COPY_BYTES) {
    this.#client = client;
    this.#slots = slots;
    this.#maxCopyBytes = maxCopyBytes;
  }

  /** undefined when it is not there. */
  async head(key: string, signal: AbortSignal): Promise<S3Object | undefined> {
    try {
      const response = await this.#client.send({ operation: 'HeadObject', method: 'HEAD', key }, signal);
      await response.discard();
      const modified = Date.parse(response.header('last-modified') ?? '');
      return {
        sizeBytes: response.contentLength,
        modifiedAt: new Date(Number.isNaN(modified) ? Date.now() : modified),
      };
    } catch (error) {
      if (storeError(error)?.status === 404) return undefined;
      throw error;
    }
  }

  /** A small object; undefined when it is not there. @throws BuildError for more than `maxBytes` */
  async get(key: string, maxBytes: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    try {
      const data = await this.#client.bytes(
        { operation: 'GetObject', method: 'GET', key },
        maxBytes + 1,
        signal,
      );
      if (data.length > maxBytes)
        throw new BuildError(`s3://${this.#client.bucket}/${key} is larger than ${maxBytes} bytes`);
      return data;
    } catch (error) {
      const answer = storeError(error);
      if (answer?.status === 404 && answer.reason !== 'NoSuchBucket') return undefined;
      throw error;
    }
  }

  /** The bytes from `offset` on; goes on where a connection breaks. */
  read(key: string, download: Download, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const open = (at: number) =>
      this.#client.send(
        {
          operation: 'GetObject',
          method: 'GET',
          key,
          headers: at > 0 ? { range: `bytes=${at}-` } : {},
        },
        signal,
      );
    return resumed(open, download, offset, { signal });
  }

  /** Puts `content` there; what is there before stays until all of it has arrived. */
  async put(
    key: string,
    content: AsyncIterable<Uint8Array>,
    sizeBytes: number,
    signal: AbortSignal,
  ): Promise<void> {
    const partBytes = Math.max(PART_BYTES, Math.ceil(sizeBytes / MAX_PARTS));
    const parts = { sizeBytes, partBytes, slots: this.#slots, signal };
    if (sizeBytes <= partBytes) {
      await sendParts(content, parts, async (body, _, own) => {
        await this.#done({ operation: 'PutObject', method: 'PUT', key, body }, own);
      });
      return;
    }
    await this.#inParts(key, {}, signal, (uploadId) =>
      sendParts(content, parts, async (body, index, own) => {
        const query = { partNumber: String(index + 1), uploadId };
        const response = await this.#client.send(
          { operation: 'UploadPart', method: 'PUT', key, query, body },
          own,
        );
        await response.discard();
        return response.header('etag') ?? '';
      }),
    );
  }

  /** Makes an object look new: rules that drop what is old keep it. */
  async touch(key: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const source = { 'x-amz-copy-source': `${this.#client.bucket}/${encodePath(key)}` };
    const metadata = { 'x-amz-meta-updated-at': new Date().toISOString() };
    if (sizeBytes <= this.#maxCopyBytes) {
      const headers = { ...source, ...metadata, 'x-amz-metadata-directive': 'REPLACE' };
      await this.#client.xml({ operation: 'CopyObject', method: 'PUT', key, headers }, signal);
      return;
    }
    await this.#inParts(key, metadata, signal, async (uploadId) => {
      const tags: string[] = [];
      for (let at = 0; at < sizeBytes; at += this.#maxCopyBytes) {
        const end = Math.min(at + this.#maxCopyBytes, sizeBytes) - 1;
        const headers = { ...source, 'x-amz-copy-source-range': `bytes=${at}-${end}` };
        const query = { partNumber: String(tags.length + 1), uploadId };
        const xml = await this.#client.xml(
          { operation: 'UploadPartCopy', method: 'PUT', key, query, headers },
          signal,
        );
        tags.push(xmlText(xml, 'ETag'));
      }
      return tags;
    });
  }

  /** An upload of many parts; `send` gives their tags. What fails leaves nothing behind that costs money. */
  async #inParts(
    key: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
    send: (uploadId: string) => Promise<readonly string[]>,
  ): Promise<void> {
    const start = {
      operation: 'CreateMultipartUpload',
      method: 'POST',
      key,
      query: { uploads: '' },
      headers,
    };
    const uploadId = xmlText(await this.#client.xml(start, signal), 'UploadId');
    if (uploadId === '')
      throw new BuildError(`CreateMultipartUpload of s3://${this.#client.bucket}/${key}: no UploadId`);
    const query = { uploadId };
    try {
      const tags = await send(uploadId);
      const parts = tags.map(
        (tag, i) => `<Part><PartNumber>${i + 1}</PartNumber><ETag>${escapeXml(tag)}</ETag></Part>`,
      );
      const body = Buffer.from(
        `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${parts.join('')}</CompleteMultipartUpload>`,
      );
      await this.#client.xml(
        { operation: 'CompleteMultipartUpload', method: 'POST', key, query, body },
        signal,
      );
    } catch (error) {
      try {
        const limit = AbortSignal.timeout(ABORT_TIMEOUT_MS); // also when the build has been canceled
        await this.#done({ operation: 'AbortMultipartUpload', method: 'DELETE', key, query }, limit);
      } catch {
        // What failed first says more; rules of the bucket clear up what is left.
      }
      throw error;
    }
  }

  async #done(request: Parameters<S3Client['send']>[0], signal: AbortSignal): Promise<void> {
    await (await this.#client.send(request, signal)).discard();
  }
}
