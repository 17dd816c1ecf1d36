import { isCanceled } from '../base/errors.ts';
import type { JobContext } from '../pool/types.ts';
import { readArchive } from './compression.ts';
import { TarType } from './tar-header.ts';
import { TarReader } from './tar-reader.ts';

const NO_FILES: ReadonlySet<string> = new Set([
  TarType.symlink,
  TarType.char,
  TarType.block,
  TarType.dir,
  TarType.fifo,
]);

/**
 * Time of the newest regular file of an archive, packed or not, in seconds since 1970. undefined when it has
 * none, is damaged or is no archive.
 */
export async function newestFile(
  { path }: { path: string },
  context: JobContext,
): Promise<number | undefined> {
  let newest: number | undefined;
  const reader = new TarReader({
    entry: ({ type, mtime }) => {
      if (!NO_FILES.has(type)) newest = Math.max(newest ?? mtime.sec, mtime.sec);
    },
    data: () => {},
    end: () => {},
  });
  try {
    for await (const chunk of readArchive(path)) {
      context.throwIfAborted();
      reader.push(chunk);
    }
    reader.close();
    return newest;
  } catch (error) {
    // A disk that can not be read says nothing about the archive.
    if (isCanceled(error) || (error as NodeJS.ErrnoException).syscall !== undefined) throw error;
    return undefined;
  }
}
