import { type TarHeader, TarType } from '../archive/tar-header.ts';
import { encodeTarHeader, padding, TAR_END } from '../archive/tar-writer.ts';

/** What is not said: a file, or with a slash at its end a directory, of root's, of 1970. */
export type TarEntry = Partial<TarHeader> & { name: string; data?: string };

/** An archive of entries, whether they make sense or not. */
export function tarOfEntries(entries: readonly TarEntry[]): Buffer {
  const parts: Buffer[] = [];
  for (const { data, ...header } of entries) {
    const bytes = Buffer.from(data ?? '');
    const type = header.name.endsWith('/') ? TarType.dir : TarType.file;
    const plain = { type, mode: 0o644, uid: 0, gid: 0, linkname: '', devMajor: 0, devMinor: 0 };
    const full = { ...plain, mtime: { sec: 1000, nsec: 0 }, size: bytes.length, ...header };
    parts.push(encodeTarHeader(full), bytes, Buffer.alloc(padding(bytes.length)));
  }
  return Buffer.concat([...parts, TAR_END]);
}
