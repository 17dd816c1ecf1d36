import type { Digest } from '../../base/digest.ts';
import { BuildError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { abortable } from '../../base/shared-task.ts';
import type { Descriptor as ImageDescriptor } from '../../oci/descriptor.ts';
import type * as pb from '../../pb/control.ts';
import { Status } from '../../pb/rpcstatus.ts';
import { statusOf } from '../../rpc/status.ts';
import { type JobProgress, nowNanos } from '../../solver/progress.ts';
import type { ContentStore } from '../../store/content.ts';
import { statusToWire } from '../status-wire.ts';
import { timestampOfNanos } from '../time-wire.ts';
import { toldCode } from '../told-code.ts';
import { BuildLog } from './build-log.ts';
import { stackDetail } from './error-stack.ts';
import { documentsOf } from './result-blobs.ts';

/** Upstream spells it that way, and clients look for it (FEATURES B37). */
const ERROR_MEDIA_TYPE = 'application/vnd.googeapis.google.rpc.status+proto';
/** The log is written that often, milliseconds: what a kill of the daemon can take of it. */
const LOG_PAUSE_MS = 250;
/** How long a build that is over may take to write its record, milliseconds (FEATURES E30). */
export const FINISH_LIMIT_MS = 300_000;

/** What the history does for a recording. */
export interface RecordingHost {
  readonly content: ContentStore;
  readonly log: Logger;
  /** Of the record; it is there from `begin` on. */
  readonly lease: string;
  /** Keeps a blob as long as the record. */
  keep(digest: Digest): void;
  /** @returns where the log goes */
  begin(record: pb.BuildHistoryRecord): string;
  complete(record: pb.BuildHistoryRecord): void;
  /** What is not written within this time, milliseconds, is left out. */
  readonly finishLimitMs: number;
}

/**
 * The record of one build in the making. It begins with `start` and ends with `finish`; nothing that goes wrong
 * with it fails the build.
 */
export class Recording {
  readonly #host: RecordingHost;
  readonly #record: pb.BuildHistoryRecord;
  #started = false;
  #log: BuildLog | undefined;
  #following: Promise<void> = Promise.resolve();
  /** Set when the build is over. */
  #deadline: AbortSignal | undefined;

  constructor(record: pb.BuildHistoryRecord, host: RecordingHost) {
    this.#record = record;
    this.#host = host;
  }

  /** The build runs now. Its log is what the progress says until it closes. */
  start(progress: JobProgress): void {
    this.#record.CreatedAt = timestampOfNanos(nowNanos());
    this.#attempt('begin', () => {
      const log = new BuildLog(this.#host.begin({ ...this.#record }));
      this.#started = true;
      this.#log = log;
      this.#following = this.#follow(progress, log);
    });
  }

  async #follow(progress: JobProgress, log: BuildLog): Promise<void> {
    const { signal } = new AbortController(); // the job ends it
    for await (const status of progress.read(signal, { pauseMs: LOG_PAUSE_MS }))
      await log.add([...statusToWire(status)], progress.isClosed);
  }

  /** What the frontend says of its result. */
  result(metadata: ReadonlyMap<string, Uint8Array>): void {
    for (const [key, value] of metadata)
      this.#record.ExporterResponse[key] = Buffer.from(
        value.buffer,
        value.byteOffset,
        value.length,
      ).toString();
  }

  /** The image that the exporter of this number has made. Its documents, not its layers, are kept. */
  async image(exporter: number, image: ImageDescriptor): Promise<void> {
    if (!this.#started) return;
    await this.#attemptAsync('keep the result', async () => {
      for (const digest of await documentsOf(image, this.#host.content)) this.#host.keep(digest);
      const { digest, mediaType, size, annotations = {} } = image;
      const descriptor = { digest, mediaType, size: BigInt(size), annotations: { ...annotations } };
      const info = (this.#record.Result ??= resultInfo());
      info.ResultDeprecated ??= descriptor;
      info.Results.set(BigInt(exporter), descriptor);
    });
  }

  /**
   * Adds a document about the result, such as its provenance; about that of one platform when `key` is given.
   * The blob leaves with the record. `make` is not asked when nothing is recorded.
   */
  async attach(
    make: () => Promise<Uint8Array>,
    about: { mediaType: string; annotations: Readonly<Record<string, string>>; key?: string },
  ): Promise<void> {
    if (!this.#started) return;
    this.#deadline ??= this.#limit();
    await this.#attemptAsync('attach a document', async () => {
      const { mediaType, annotations, key } = about;
      const descriptor = { ...(await this.#blob(await make(), mediaType)), annotations: { ...annotations } };
      const info =
        key === undefined
          ? (this.#record.Result ??= resultInfo())
          : (this.#record.Results[key] ??= resultInfo());
      info.Attestations.push(descriptor);
    });
  }

  /** After the progress has closed: writes the record. Never throws. */
  async finish(error?: unknown): Promise<void> {
    if (!this.#started) return;
    this.#started = false;
    this.#deadline = this.#limit(); // whatever documents took: the log and the error matter more
    const record = this.#record;
    await this.#attemptAsync('write the log', () => this.#finishLog());
    if (error !== undefined) {
      const stack = stackDetail(error);
      const told = toldCode(BuildError.from(error));
      const status = statusOf(stack ? told.with(stack) : told);
      record.error = { ...status, details: [] };
      await this.#attemptAsync('write the error', async () => {
        record.externalError = await this.#blob(Status.encode(status).finish(), ERROR_MEDIA_TYPE);
      });
    }
    record.CompletedAt = timestampOfNanos(nowNanos());
    this.#attempt('write the record', () => this.#host.complete(record));
  }

  async #finishLog(): Promise<void> {
    const log = this.#log;
    if (!log) return;
    await this.#following;
    Object.assign(this.#record, log.counts);
    const { logs, failure } = await log.finish(this.#host.content, this.#host.lease);
    this.#record.logs = logs;
    if (failure !== undefined) this.#warn('write all of the log', failure);
  }

  async #blob(data: Uint8Array, mediaType: string): Promise<pb.Descriptor> {
    const { content, lease } = this.#host;
    const { digest, size } = await content.writeBlob(data, { lease, volatile: true });
    return { mediaType, digest, size: BigInt(size), annotations: {} };
  }

  #attempt(what: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#warn(what, error);
    }
  }

  async #attemptAsync(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await abortable(work(), this.#deadline);
    } catch (error) {
      this.#warn(what, error);
    }
  }

  #limit(): AbortSignal {
    return AbortSignal.timeout(this.#host.finishLimitMs);
  }

  #warn(what: string, error: unknown): void {
    this.#host.log.warn(`build history: could not ${what}`, { ref: this.#record.Ref, error });
  }
}

export function resultInfo(): pb.BuildResultInfo {
  return { ResultDeprecated: undefined, Attestations: [], Results: new Map() };
}
