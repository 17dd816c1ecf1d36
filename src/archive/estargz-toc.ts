import { createHash } from 'node:crypto';
import type { Digest } from '../base/digest.ts';
import { badTar, type TarHeader, type TarTime, TarType } from './tar-header.ts';
import { encodeTarHeader, padding, TAR_END } from './tar-writer.ts';
import { TOC_NAME } from '../oci/estargz.ts';

/** An entry of the table: a file, or a further piece of one (`chunk`). Offsets and sizes in bytes. */
export interface TocEntry {
  readonly name: string;
  readonly type: string;
  readonly header?: TarHeader;
  /** Names, where the last entry of the same id had another. */
  userName?: string;
  groupName?: string;
  /** A member begins with its data: `offset` and digests will be known. */
  hasData?: boolean;
  /** Of the member in the blob. */
  offset?: number;
  /** Of the whole file. */
  digest?: string;
  readonly chunkOffset?: number;
  /** Absent: up to the end of the file. */
  chunkSize?: number;
  chunkDigest?: string;
}

const TYPES: Readonly<Record<string, string>> = {
  [TarType.file]: 'reg',
  [TarType.link]: 'hardlink',
  [TarType.symlink]: 'symlink',
  [TarType.char]: 'char',
  [TarType.block]: 'block',
  [TarType.dir]: 'dir',
  [TarType.fifo]: 'fifo',
};
const VERSION = 1;
/** Text that is gathered before it becomes bytes. */
const PIECE_CHARS = 128 << 10;
/** What RFC 3339 can say: years 0 to 9999. */
const MIN_TIME_SEC = -62_167_219_200;
const MAX_TIME_SEC = 253_402_300_799;

/** @throws BuildError for a type of entry that the table has no word for */
export function tocEntry(header: TarHeader): TocEntry {
  const type = TYPES[header.type];
  if (type === undefined)
    throw badTar(
      `${JSON.stringify(header.name)} has type ${JSON.stringify(header.type)}, unknown to estargz`,
    );
  return { name: header.name, type, header };
}

/** The finished table. */
export interface TocFile {
  /** Of the JSON text. */
  readonly digest: Digest;
  /** The archive that holds it alone. */
  archive(): Iterable<Buffer>;
}

/**
 * Writes the table of contents as JSON while entries come in. Entries wait as objects until their offsets are known,
 * and are kept as bytes afterwards: layers may have millions of them.
 */
export class TocWriter {
  readonly #waiting: TocEntry[] = [];
  #next = 0;
  readonly #pieces: Buffer[] = [];
  #text = `{"version":${VERSION},"entries":[`;
  #separator = '\n';
  readonly #users = new Map<number, string>();
  readonly #groups = new Map<number, string>();

  add(entry: TocEntry): void {
    const { header } = entry;
    if (header) {
      entry.userName = changed(this.#users, header.uid, header.uname);
      entry.groupName = changed(this.#groups, header.gid, header.gname);
    }
    this.#waiting.push(entry);
  }

  /** Writes the entries, in order, about which all is known. */
  settle(): void {
    for (; this.#next < this.#waiting.length; this.#next++) {
      const entry = this.#waiting[this.#next]!;
      const isKnown =
        entry.type === 'reg' ? entry.digest !== undefined : entry.type !== 'chunk' || entry.chunkDigest;
      if (!isKnown || (entry.hasData && entry.offset === undefined)) break;
      this.#put(entry);
    }
    // Not one by one, which would move the rest each time.
    if (this.#next < 1000 && this.#next < this.#waiting.length) return;
    this.#waiting.splice(0, this.#next);
    this.#next = 0;
  }

  finish(): TocFile {
    this.settle();
    if (this.#waiting.length > 0) throw badTar('unexpected EOF');
    this.#text += '\n]}';
    this.#flush();
    const hash = createHash('sha256');
    let size = 0;
    for (const piece of this.#pieces) {
      hash.update(piece);
      size += piece.length;
    }
    const end = Buffer.concat([TAR_END.subarray(0, padding(size)), TAR_END]);
    const header = encodeTarHeader({ ...NO_FILE, size });
    const pieces = this.#pieces;
    return {
      digest: `sha256:${hash.digest('hex')}` as Digest,
      archive: () => [header, ...pieces, end],
    };
  }

  #put(entry: TocEntry): void {
    this.#text += this.#separator + JSON.stringify(tocJson(entry));
    this.#separator = ',\n';
    if (this.#text.length >= PIECE_CHARS) this.#flush();
  }

  #flush(): void {
    this.#pieces.push(Buffer.from(this.#text));
    this.#text = '';
  }
}

const NO_FILE: TarHeader = {
  name: TOC_NAME,
  type: TarType.file,
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: { sec: 0, nsec: 0 },
  linkname: '',
  devMajor: 0,
  devMinor: 0,
};

/** The fields that the format names, without those that say nothing. */
function tocJson(entry: TocEntry): Record<string, unknown> {
  const { header, name, type } = entry;
  const isLink = type === 'symlink' || type === 'hardlink';
  const isDevice = type === 'char' || type === 'block';
  const xattrs = header?.xattrs && [...header.xattrs].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    name,
    type,
    ...set('size', type === 'reg' ? header?.size : 0),
    ...set('modtime', header && timeText(header.mtime)),
    ...set('linkName', isLink ? header?.linkname : ''),
    ...set('mode', header?.mode),
    ...set('uid', header?.uid),
    ...set('gid', header?.gid),
    ...set('userName', entry.userName),
    ...set('groupName', entry.groupName),
    ...set('offset', entry.offset),
    ...set('devMajor', isDevice ? header?.devMajor : 0),
    ...set('devMinor', isDevice ? header?.devMinor : 0),
    ...(xattrs && {
      xattrs: Object.fromEntries(xattrs.map(([key, value]) => [key, Buffer.from(value).toString('base64')])),
    }),
    ...set('digest', entry.digest),
    ...set('chunkOffset', entry.chunkOffset),
    ...set('chunkSize', entry.chunkSize),
    ...set('chunkDigest', entry.chunkDigest),
  };
}

function set(key: string, value: string | number | undefined): Record<string, string | number> {
  return value === undefined || value === '' || value === 0 ? {} : { [key]: value };
}

/** The name, unless the last one of this id was the same. */
function changed(last: Map<number, string>, id: number, name = ''): string {
  if (name === '' || last.get(id) === name) return '';
  last.set(id, name);
  return name;
}

/** In whole seconds, the nearest; '' for the beginning of 1970, which stands for no time. */
function timeText({ sec, nsec }: TarTime): string {
  if (sec === 0) return '';
  const rounded = sec + (nsec >= 500_000_000 ? 1 : 0);
  if (rounded < MIN_TIME_SEC || rounded > MAX_TIME_SEC) return '';
  return new Date(rounded * 1000).toISOString().replace('.000Z', 'Z');
}
