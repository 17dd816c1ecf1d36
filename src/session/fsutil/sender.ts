import { setImmediate as nextTurn } from 'node:timers/promises';
import { BuildError } from '../../base/errors.ts';
import type { MessageStream } from '../../rpc/types.ts';
import { type FsPacket, packetSize, PacketType } from './packet.ts';
import type { TreeSource } from './source.ts';
import { hasData } from './stat.ts';

const READERS = 4;
/** Requests held before no further packet is taken from the receiver. */
const MAX_QUEUED = 128;
const CHUNK_BYTES = 32 << 10;
/** Entries and small files between turns of the event loop. */
const YIELD_EVERY = 128;
/**
 * After so many files the requests of a slow receiver are gathered for a moment and answered in one write: each write
 * wakes half a dozen threads and routines over there, which took a seventh of the time of 20,000 files.
 */
const GATHER_AFTER = 256;
/** Half of that moment. */
const GATHER_MS = 2;
const GATHER_UP_TO = 32;
/** So many times in a row nothing came in the second half: the receiver waits for what it has asked for. */
const MAX_IDLE = 16;

/** Begins what a receiver says when it fails. */
export const FROM_RECEIVER = 'error from receiver: ';

export interface SendOptions {
  /** Total of bytes put on the wire so far, and whether it was the last call. */
  readonly onProgress?: (bytes: number, done: boolean) => void;
  /** The receiver asks for a file for the first time: it has made all that came before it. */
  readonly onRequest?: () => void;
  /** The receiver does not hear that there are no more entries before this. */
  readonly beforeEnd?: Promise<void>;
}

/**
 * Sends a tree (FEATURES C9): one STAT for each entry, then the data of the files that the receiver asks for,
 * until it says FIN. An error here is told to the receiver, and thrown; ending the call is then the caller's.
 */
export async function sendTree(
  stream: MessageStream<FsPacket, FsPacket>,
  source: TreeSource,
  options: SendOptions = {},
): Promise<void> {
  const sender = new Sender(stream, source, options);
  try {
    await sender.run();
  } finally {
    options.onProgress?.(sender.bytes, true);
  }
}

class Sender {
  readonly #stream: MessageStream<FsPacket, FsPacket>;
  readonly #source: TreeSource;
  readonly #options: SendOptions;
  readonly #files = new Map<number, string>();
  readonly #queue: { id: number; path: string }[] = [];
  #wakeReader: (() => void)[] = [];
  #wakeTaker: (() => void) | undefined;
  #requested = 0;
  #gathering: NodeJS.Timeout | undefined;
  #idle = 0;
  #done = false;
  #failed = false;
  bytes = 0;

  constructor(stream: MessageStream<FsPacket, FsPacket>, source: TreeSource, options: SendOptions) {
    this.#stream = stream;
    this.#source = source;
    this.#options = options;
  }

  /** Settles with the first failure; the other parts then end by themselves, with the stream at the latest. */
  async run(): Promise<void> {
    const stop = (error: unknown): never => {
      this.#failed = true;
      this.#finish();
      throw error;
    };
    const parts = [this.#walk(), this.#take(), ...Array.from({ length: READERS }, () => this.#serve())];
    await Promise.all(parts.map((part) => part.catch(stop)));
  }

  async #tell(error: unknown): Promise<void> {
    const text = Buffer.from(BuildError.from(error).message);
    await this.#stream.send({ type: PacketType.PACKET_ERR, data: text }).catch(() => {});
  }

  async #walk(): Promise<void> {
    try {
      let id = 0;
      for await (const stat of this.#source.entries()) {
        if (this.#failed) throw new Stopped();
        if (hasData(stat.mode)) this.#files.set(id, stat.path);
        id++;
        const packet = { type: PacketType.PACKET_STAT, stat };
        this.#count(packet);
        await this.#stream.send(packet);
        if (id % YIELD_EVERY === 0) await nextTurn();
      }
      await this.#options.beforeEnd;
      await this.#stream.send({ type: PacketType.PACKET_STAT });
    } catch (error) {
      if (!(error instanceof Stopped)) await this.#tell(error);
      throw error;
    }
  }

  async #take(): Promise<void> {
    for (;;) {
      const packet = await this.#stream.receive();
      if (this.#failed) throw new Stopped();
      if (!packet) throw new BuildError('unexpected EOF');
      if (packet.type === PacketType.PACKET_ERR)
        throw new BuildError(`${FROM_RECEIVER}${Buffer.from(packet.data ?? []).toString()}`);
      if (packet.type === PacketType.PACKET_FIN) {
        await this.#stream.send({ type: PacketType.PACKET_FIN });
        this.#finish();
        return;
      }
      if (packet.type === PacketType.PACKET_REQ) await this.#enqueue(packet.id ?? 0);
    }
  }

  async #enqueue(id: number): Promise<void> {
    const path = this.#files.get(id);
    if (path === undefined) throw new BuildError(`invalid file id ${id}`);
    this.#files.delete(id);
    this.#queue.push({ id, path });
    if (this.#requested === 0) this.#options.onRequest?.();
    if (++this.#requested <= GATHER_AFTER || this.#idle >= MAX_IDLE) this.#wakeReader.pop()?.();
    else if (this.#queue.length >= GATHER_UP_TO) this.#gathered();
    else this.#gathering ??= setTimeout(() => this.#gatherMore(this.#queue.length), GATHER_MS);
    while (this.#queue.length >= MAX_QUEUED && !this.#failed)
      await new Promise<void>((resolve) => {
        this.#wakeTaker = resolve;
      });
  }

  #gatherMore(before: number): void {
    this.#gathering = setTimeout(() => {
      this.#idle = this.#queue.length === before ? this.#idle + 1 : 0;
      this.#gathered();
    }, GATHER_MS);
  }

  #gathered(): void {
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    for (const wake of this.#wakeReader.splice(0)) wake();
  }

  async #serve(): Promise<void> {
    for (let served = 0; ; served++) {
      if (this.#failed) throw new Stopped();
      const file = this.#queue.shift();
      if (!file) {
        if (this.#done) return;
        await new Promise<void>((resolve) => this.#wakeReader.push(resolve));
        continue;
      }
      this.#wakeTaker?.();
      try {
        await this.#sendFile(file.id, file.path);
      } catch (error) {
        if (!(error instanceof Stopped)) await this.#tell(error);
        throw error;
      }
      if (served % YIELD_EVERY === 0) await nextTurn();
    }
  }

  async #sendFile(id: number, path: string): Promise<void> {
    for await (const chunk of this.#source.read(path)) {
      for (let at = 0; at < chunk.byteLength; at += CHUNK_BYTES) {
        if (this.#failed) throw new Stopped();
        const data = chunk.subarray(at, at + CHUNK_BYTES);
        const packet = { type: PacketType.PACKET_DATA, id, data };
        this.#count(packet);
        await this.#stream.send(packet);
      }
    }
    await this.#stream.send({ type: PacketType.PACKET_DATA, id });
  }

  /** Entries and data, not what only steers the transfer. */
  #count(packet: FsPacket): void {
    const { onProgress } = this.#options;
    if (onProgress) onProgress((this.bytes += packetSize(packet)), false);
  }

  #finish(): void {
    this.#done = true;
    this.#gathered();
    this.#wakeTaker?.();
  }
}

/** Ends a part of the transfer because another part has failed. */
class Stopped extends Error {}
