import type { Hash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BuildError } from '../../base/errors.ts';
import type { Digest } from '../../base/digest.ts';
import type { MessageStream } from '../../rpc/types.ts';
import { ExistingTree } from './existing.ts';
import { encodeStat, type FsPacket, packetSize, PacketType } from './packet.ts';
import { comparePaths, type FsStat, hasData, isDir } from './stat.ts';
import { TreeValidator } from './validate.ts';
import { TreeWriter } from './writer.ts';

/** Longest time that file operations hold the event loop. */
const TURN_MS = 5;
const METADATA_FILE = '.fsutil-metadata';

export type ChangeKind = 'add' | 'modify' | 'delete';

export interface TreeChange {
  readonly kind: ChangeKind;
  readonly path: string;
  /** Absent for a deletion. */
  readonly stat?: FsStat;
  /** What `newHash` gives over the file's content; of an empty content for everything that has none. */
  readonly digest?: Digest;
}

export interface ReceiveOptions {
  /** Keep what is there and was not received. */
  readonly merge?: boolean;
  /** `metadata` asks only for files whose size, time, mode, owner or link differ; `none` asks for all. */
  readonly differ?: 'metadata' | 'none';
  /** Changes an entry before it is written. */
  readonly map?: (stat: FsStat) => void;
  /** A running sha256, possibly already fed with something of the file's own; contents are hashed only with this. */
  readonly newHash?: (stat: FsStat) => Hash;
  /** Called for every entry written or removed; of a file, when it is complete. */
  readonly onChange?: (change: TreeChange) => void;
  /** Total of bytes received, as they are on the wire. */
  readonly onProgress?: (bytes: number) => void;
  /** Waits for the end of the call after the last packet; false on a server, which ends the call itself. */
  readonly drain?: boolean;
  /** Takes only the entries it accepts; a list of all goes to `.fsutil-metadata` (FEATURES C13). */
  readonly only?: (stat: FsStat) => boolean;
}

/**
 * Receives a tree into `dest` (FEATURES C9-C11), so that afterwards `dest` equals what was sent, or holds it
 * beside what was there (`merge`). An error here is told to the sender, and thrown.
 */
export async function receiveTree(
  stream: MessageStream<FsPacket, FsPacket>,
  dest: string,
  options: ReceiveOptions = {},
): Promise<void> {
  using writer = new TreeWriter(dest, options.newHash);
  const receiver = new Receiver(stream, writer, options);
  try {
    await receiver.run();
  } catch (error) {
    const data = Buffer.from(BuildError.from(error).message);
    await stream.send({ type: PacketType.PACKET_ERR, data }).catch(() => {});
    throw error;
  }
}

class Receiver {
  readonly #stream: MessageStream<FsPacket, FsPacket>;
  readonly #writer: TreeWriter;
  readonly #options: ReceiveOptions;
  readonly #existing: ExistingTree | undefined;
  readonly #validator = new TreeValidator();
  readonly #metadata: Uint8Array[] = [];
  readonly #skippedDirs: { readonly stat: FsStat }[] = [];
  #nextId = 0;
  #listed = false;
  #finished = false;
  #bytes = 0;
  #turnEnds = 0;

  constructor(stream: MessageStream<FsPacket, FsPacket>, writer: TreeWriter, options: ReceiveOptions) {
    this.#stream = stream;
    this.#writer = writer;
    this.#options = options;
    this.#existing = options.merge ? undefined : new ExistingTree(writer.root);
  }

  async run(): Promise<void> {
    for (;;) {
      if (performance.now() > this.#turnEnds) await this.#yield();
      const packet = await this.#stream.receive();
      if (!packet) throw new BuildError('unexpected EOF');
      this.#count(packet);
      switch (packet.type) {
        case PacketType.PACKET_ERR:
          throw new BuildError(`error from sender: ${Buffer.from(packet.data ?? []).toString()}`);
        case PacketType.PACKET_STAT:
          await this.#onStat(packet.stat);
          break;
        case PacketType.PACKET_DATA:
          await this.#onData(packet.id ?? 0, packet.data ?? new Uint8Array(0));
          break;
        case PacketType.PACKET_FIN:
          if (!this.#finished) throw new BuildError('sender finished before all files were received');
          this.#stream.end();
          if (this.#options.drain ?? true) while ((await this.#stream.receive()) !== undefined);
          return;
      }
    }
  }

  /** Lets others run: packets that have arrived already would else be worked off in one go. */
  async #yield(): Promise<void> {
    await nextTurn();
    this.#turnEnds = performance.now() + TURN_MS;
  }

  async #onStat(stat: FsStat | undefined): Promise<void> {
    if (this.#listed) throw new BuildError('entry received after the end of the list');
    if (!stat) {
      this.#listed = true;
      this.#removeUntil(undefined);
      await this.#finishIfComplete();
      return;
    }
    const { only } = this.#options;
    if (only && stat.path === METADATA_FILE) return;
    const id = this.#nextId++;
    this.#validator.check(stat);
    if (only && !this.#wanted(stat, only)) return;
    await this.#accept(id, stat);
  }

  /** Records the entry; when it is taken, its directories that were left out come first. */
  #wanted(stat: FsStat, only: (stat: FsStat) => boolean): boolean {
    const encoded = encodeStat(stat);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(encoded.byteLength);
    this.#metadata.push(size, encoded);
    const skipped = this.#skippedDirs;
    while (skipped.length > 0 && !stat.path.startsWith(`${skipped.at(-1)?.stat.path}/`)) skipped.pop();
    if (!only(stat)) {
      if (isDir(stat.mode)) skipped.push({ stat });
      return false;
    }
    for (const dir of skipped.splice(0)) this.#apply(undefined, dir.stat);
    return true;
  }

  async #accept(id: number, stat: FsStat): Promise<void> {
    if (this.#apply(id, stat)) await this.#stream.send({ type: PacketType.PACKET_REQ, id });
  }

  /** True when the entry's data must be asked for. */
  #apply(id: number | undefined, received: FsStat): boolean {
    const { map, differ, onChange } = this.#options;
    const stat = map ? { ...received } : received;
    map?.(stat);
    this.#removeUntil(stat.path);
    const old = this.#existing?.current;
    const replaces = old !== undefined && old.path === stat.path;
    if (replaces) {
      const same = differ !== 'none' && sameEntry(old, stat);
      this.#existing?.advance({ skipChildren: !isDir(stat.mode) });
      if (same) return false;
    }
    if (hasData(stat.mode) && stat.linkname === '') {
      this.#writer.createFile(id as number, stat);
      return true;
    }
    const digest = this.#writer.create(stat);
    onChange?.({ kind: replaces ? 'modify' : 'add', path: stat.path, stat, ...(digest && { digest }) });
    return false;
  }

  /** Removes what is there before `path` in order and was not received. */
  #removeUntil(path: string | undefined): void {
    const existing = this.#existing;
    for (let old = existing?.current; old; old = existing?.current) {
      if (path !== undefined && comparePaths(old.path, path) >= 0) return;
      existing?.advance({ skipChildren: true });
      this.#writer.remove(old.path);
      this.#options.onChange?.({ kind: 'delete', path: old.path });
    }
  }

  async #onData(id: number, data: Uint8Array): Promise<void> {
    if (data.byteLength > 0) {
      this.#writer.write(id, data);
      return;
    }
    const { stat, digest } = this.#writer.finish(id);
    this.#options.onChange?.({ kind: 'add', path: stat.path, stat, ...(digest && { digest }) });
    await this.#finishIfComplete();
  }

  async #finishIfComplete(): Promise<void> {
    if (!this.#listed || this.#writer.pendingFiles > 0) return;
    this.#writer.finishDirectories();
    if (this.#options.only) this.#writer.writeOwnFile(METADATA_FILE, this.#metadata);
    this.#finished = true;
    await this.#stream.send({ type: PacketType.PACKET_FIN });
  }

  #count(packet: FsPacket): void {
    const { onProgress } = this.#options;
    if (onProgress) onProgress((this.#bytes += packetSize(packet)));
  }
}

function sameEntry(a: FsStat, b: FsStat): boolean {
  if (!isDir(a.mode) && (a.size !== b.size || a.modTime !== b.modTime)) return false;
  return (
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.devmajor === b.devmajor &&
    a.devminor === b.devminor &&
    a.linkname === b.linkname
  );
}
