import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex, digestOf, isDigest } from '../../base/digest.ts';
import { BuildError, Code, errno, notFound } from '../../base/errors.ts';
import { makeDirs } from '../../base/make-dirs.ts';
import type { RemoteBlobInfo, RemoteBlobWriter, RemoteContent, RemoteIngest } from '../content.ts';

const READ_BYTES = 256 << 10;

/**
 * The blobs of an OCI layout folder, or of a local cache folder, as a content store: `blobs/<algorithm>/<hex>`,
 * unfinished ones in `ingest/<digest of the ref>/`. Labels live as long as this object.
 */
export function contentDirectory(dir: string): RemoteContent {
  return new ContentDirectory(dir);
}

class ContentDirectory implements RemoteContent {
  readonly #dir: string;
  readonly #labels = new Map<Digest, Record<string, string>>();
  readonly #writing = new Set<string>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  #path(digest: Digest): string {
    return join(this.#dir, 'blobs', digestAlgorithm(digest), digestHex(digest));
  }

  #ingest(ref: string): string {
    return join(this.#dir, 'ingest', digestHex(digestOf(ref)));
  }

  async info(digest: Digest): Promise<RemoteBlobInfo> {
    try {
      const { size, birthtime, mtime } = await stat(this.#path(digest));
      return { digest, size, createdAt: birthtime, updatedAt: mtime, labels: this.#labels.get(digest) ?? {} };
    } catch (error) {
      if (errno(error) === 'ENOENT') throw notFound(`content ${digest}: not found`, error);
      throw error;
    }
  }

  async *read(
    digest: Digest,
    options: { readonly offset?: number; readonly length?: number; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<Uint8Array> {
    const { offset = 0, length, signal } = options;
    await this.info(digest);
    if (length === 0) return;
    const range = length === undefined ? {} : { end: offset + length - 1 };
    yield* createReadStream(this.#path(digest), {
      start: offset,
      ...range,
      highWaterMark: READ_BYTES,
      signal,
    });
  }

  async *list(): AsyncGenerator<RemoteBlobInfo> {
    for (const algorithm of await names(join(this.#dir, 'blobs')))
      for (const hex of await names(join(this.#dir, 'blobs', algorithm))) {
        const digest = `${algorithm}:${hex}`;
        if (isDigest(digest)) yield await this.info(digest);
      }
  }

  async ingests(): Promise<readonly RemoteIngest[]> {
    const found: RemoteIngest[] = [];
    for (const name of await names(join(this.#dir, 'ingest'))) {
      const path = join(this.#dir, 'ingest', name);
      const [ref, data] = await Promise.all([
        readFile(join(path, 'ref'), 'utf8').catch(() => undefined),
        stat(join(path, 'data')).catch(() => undefined),
      ]);
      if (ref === undefined || !data) continue;
      found.push({ ref, offset: data.size, total: 0, startedAt: data.birthtime, updatedAt: data.mtime });
    }
    return found;
  }

  async abortIngest(ref: string): Promise<void> {
    await rm(this.#ingest(ref), { recursive: true, force: true });
  }

  async delete(digest: Digest): Promise<void> {
    await this.info(digest);
    await rm(this.#path(digest));
    this.#labels.delete(digest);
  }

  async updateLabels(digest: Digest, labels: Readonly<Record<string, string>>): Promise<RemoteBlobInfo> {
    await this.info(digest);
    const all = { ...this.#labels.get(digest), ...labels };
    for (const [name, value] of Object.entries(all)) if (value === '') delete all[name];
    this.#labels.set(digest, all);
    return await this.info(digest);
  }

  async writer({ ref }: { readonly ref: string }): Promise<RemoteBlobWriter> {
    if (this.#writing.has(ref))
      throw new BuildError(`ref ${ref} locked: unavailable`, { code: Code.unavailable });
    this.#writing.add(ref);
    try {
      const path = this.#ingest(ref);
      makeDirs(path);
      await writeFile(join(path, 'ref'), ref);
      const file = await open(join(path, 'data'), 'a+');
      return await Ingest.open(file, {
        publish: (digest, labels) => this.#publish(path, digest, labels),
        closed: () => this.#writing.delete(ref),
      });
    } catch (error) {
      this.#writing.delete(ref);
      throw error;
    }
  }

  async #publish(ingest: string, digest: Digest, labels: Readonly<Record<string, string>>): Promise<void> {
    const path = this.#path(digest);
    makeDirs(join(path, '..'));
    await rename(join(ingest, 'data'), path);
    await rm(ingest, { recursive: true, force: true });
    if (Object.keys(labels).length > 0) this.#labels.set(digest, { ...labels });
  }
}

interface IngestEnds {
  publish(digest: Digest, labels: Readonly<Record<string, string>>): Promise<void>;
  closed(): void;
}

class Ingest implements RemoteBlobWriter {
  readonly #file: FileHandle;
  readonly #ends: IngestEnds;
  #hash = createHash('sha256');
  #open = true;
  offset = 0;

  private constructor(file: FileHandle, ends: IngestEnds) {
    this.#file = file;
    this.#ends = ends;
  }

  /** Hashes what an earlier writer left. */
  static async open(file: FileHandle, ends: IngestEnds): Promise<Ingest> {
    const ingest = new Ingest(file, ends);
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, ingest.offset);
      if (bytesRead === 0) return ingest;
      ingest.#hash.update(buffer.subarray(0, bytesRead));
      ingest.offset += bytesRead;
    }
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    await this.#file.appendFile(chunk);
    this.offset += chunk.byteLength;
  }

  async truncate(size: number): Promise<void> {
    if (size === this.offset) return;
    if (size !== 0) throw new BuildError('an ingest can only start again', { code: Code.unimplemented });
    await this.#file.truncate(0);
    this.#hash = createHash('sha256');
    this.offset = 0;
  }

  async commit(options: Parameters<RemoteBlobWriter['commit']>[0]): Promise<Digest> {
    const digest = `sha256:${this.#hash.digest('hex')}` as Digest;
    const size = this.offset;
    await this.#file.sync();
    await this[Symbol.asyncDispose]();
    const refuse = (text: string): BuildError => new BuildError(text, { code: Code.failedPrecondition });
    if (options.size !== undefined && options.size !== size)
      throw refuse(`unexpected commit size ${size}, expected ${options.size}`);
    if (options.digest !== undefined && options.digest !== digest)
      throw refuse(`unexpected commit digest ${digest}, expected ${options.digest}`);
    await this.#ends.publish(digest, options.labels ?? {});
    return digest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#ends.closed();
    await this.#file.close();
  }
}

async function names(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir)).sort();
  } catch (error) {
    if (errno(error) === 'ENOENT' || errno(error) === 'ENOTDIR') return [];
    throw error;
  }
}
