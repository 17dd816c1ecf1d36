import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { type Digest, Digester } from '../../base/digest.ts';
import type { Descriptor, StatusResponse } from '../../pb/control.ts';
import type { ContentStore } from '../../store/content.ts';
import { decodeFrames, encodeFrames, LOG_MEDIA_TYPE } from './log-frames.ts';

/** What a record says of the steps of its build. */
export interface StepCounts {
  readonly numTotalSteps: number;
  readonly numCompletedSteps: number;
  readonly numCachedSteps: number;
  readonly numWarnings: number;
}

const CACHED = 1;
const COMPLETED = 2;

/** Counts steps the way clients show them: one that was cached or done once stays so. */
export class StepCounter {
  readonly #steps = new Map<string, number>();
  #warnings = 0;

  add({ vertexes, warnings }: StatusResponse): void {
    this.#warnings += warnings.length;
    for (const { digest, cached, completed } of vertexes) {
      const before = this.#steps.get(digest) ?? 0;
      this.#steps.set(digest, before | (cached ? CACHED : 0) | (completed ? COMPLETED : 0));
    }
  }

  get counts(): StepCounts {
    let cached = 0;
    let completed = 0;
    for (const flags of this.#steps.values()) {
      if (flags & CACHED) cached++;
      if (flags & COMPLETED) completed++;
    }
    return {
      numTotalSteps: this.#steps.size,
      numCompletedSteps: completed,
      numCachedSteps: cached,
      numWarnings: this.#warnings,
    };
  }
}

/**
 * The log of one build on its way to the disk: a file that grows as the build runs and becomes a blob with its
 * end. That of a short build becomes one at once.
 */
export class BuildLog {
  readonly #path: string;
  readonly #counter = new StepCounter();
  readonly #hash = new Digester();
  #file: FileHandle | undefined;
  /** All of a log that has no file. */
  #whole: Buffer = Buffer.alloc(0);
  #size = 0;
  #failure: unknown;

  constructor(path: string) {
    this.#path = path;
  }

  get counts(): StepCounts {
    return this.#counter.counts;
  }

  /** `isLast`: nothing follows. After a failed write, as on a full disk, the log ends there; steps are counted on. */
  async add(responses: readonly StatusResponse[], isLast: boolean): Promise<void> {
    for (const response of responses) this.#counter.add(response);
    if (this.#failure !== undefined) return;
    const bytes = encodeFrames(responses);
    if (isLast && this.#size === 0) this.#whole = Buffer.concat([this.#whole, bytes]);
    else await this.#write(bytes);
  }

  async #write(bytes: Buffer): Promise<void> {
    try {
      this.#file ??= await open(this.#path, 'wx', 0o600);
      for (let done = 0; done < bytes.length; )
        done += (await this.#file.write(bytes, done, bytes.length - done, this.#size + done)).bytesWritten;
      this.#hash.update(bytes);
      this.#size += bytes.length;
    } catch (error) {
      this.#failure = error;
    }
  }

  /**
   * Makes a blob of it that `lease` keeps. `failure` is why the log is not whole.
   * @throws what keeps the blob from being made; nothing is left of the file then
   */
  async finish(content: ContentStore, lease: string): Promise<{ logs: Descriptor; failure: unknown }> {
    const file = this.#file;
    if (!file) {
      const { digest, size } = await content.writeBlob(this.#whole, { lease, volatile: true });
      return { logs: descriptor(digest, size), failure: this.#failure };
    }
    try {
      if (this.#failure !== undefined) await file.truncate(this.#size);
      await file.close();
      const blob = { digest: this.#hash.digest(), size: this.#size, lease };
      return { logs: await toBlob(this.#path, blob, content), failure: this.#failure };
    } catch (error) {
      await file.close().catch(() => {}); // it is closed already
      await rm(this.#path, { force: true });
      throw error;
    }
  }
}

/** What a daemon that died has left of a build's log, up to its last whole message. The file is gone afterwards. */
export async function recoverLog(
  path: string,
  content: ContentStore,
  lease: string,
): Promise<{ logs: Descriptor | undefined; counts: StepCounts; endedAt: number | undefined }> {
  const counter = new StepCounter();
  const hash = new Digester();
  let size = 0;
  try {
    await using file = await open(path, 'r+');
    const { mtimeMs } = await file.stat();
    try {
      for await (const { response, bytes } of decodeFrames(file.createReadStream({ autoClose: false }))) {
        counter.add(response);
        hash.update(bytes);
        size += bytes.length;
      }
    } catch {
      // The message that was being written: the log ends before it.
    }
    await file.truncate(size);
    const logs = await toBlob(path, { digest: hash.digest(), size, lease }, content);
    return { logs, counts: counter.counts, endedAt: mtimeMs };
  } catch {
    return { logs: undefined, counts: counter.counts, endedAt: undefined }; // it never had one, or the disk is full
  } finally {
    await rm(path, { force: true });
  }
}

async function toBlob(
  path: string,
  { digest, size, lease }: { digest: Digest; size: number; lease: string },
  content: ContentStore,
): Promise<Descriptor> {
  const moved = content.tmpPath('history');
  await rename(path, moved);
  await content.commitFile(moved, { digest, size, lease, volatile: true });
  return descriptor(digest, size);
}

function descriptor(digest: Digest, size: number): Descriptor {
  return { mediaType: LOG_MEDIA_TYPE, digest, size: BigInt(size), annotations: {} };
}
