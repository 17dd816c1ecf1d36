import { BuildError, isCanceled } from '../base/errors.ts';
import type { JobContext } from '../pool/types.ts';
import type { Rootfs } from '../sys/rootfs.ts';
import { Extractor } from './apply.ts';
import { readArchive } from './compression.ts';
import { TarReader } from './tar-reader.ts';

/** Bytes in which the first entry must begin: PAX records may come before it. */
const MAX_PROBE_BYTES = 4 << 20;

/** Whether the file is a tar archive with at least one entry, packed or not (FEATURES H46). */
export async function isArchive(path: string): Promise<boolean> {
  let found = false;
  const reader = new TarReader({
    entry: () => {
      found = true;
    },
    data: () => {},
    end: () => {},
  });
  let read = 0;
  try {
    for await (const chunk of readArchive(path)) {
      reader.push(chunk.subarray(0, PROBE_STEP));
      if (found) return true;
      reader.push(chunk.subarray(PROBE_STEP));
      read += chunk.length;
      if (found || read > MAX_PROBE_BYTES) break;
    }
  } catch (error) {
    if (isCanceled(error)) throw error;
    // Whatever it is, it is no archive; what comes behind the first entry does not matter.
    return found;
  }
  return found;
}

const PROBE_STEP = 2048;

/** Extracts an archive into `target`; links and `..` stay inside it. Sparse files and damaged input are errors. */
export async function unpackTo(
  path: string,
  target: Rootfs,
  owner: { readonly uid: number; readonly gid: number } | undefined,
  context: JobContext,
): Promise<void> {
  const extractor = new Extractor(target, {
    whiteouts: 'keep',
    looseXattrs: true,
    ...(owner && { owner: { uid: owner.uid, gid: owner.gid } }),
  });
  const reader = new TarReader(extractor);
  try {
    for await (const chunk of readArchive(path)) {
      context.throwIfAborted();
      reader.push(chunk);
    }
    reader.close();
    extractor.finish();
  } catch (error) {
    if (isCanceled(error)) throw error;
    throw BuildError.wrap(error, 'failed to unpack archive');
  } finally {
    extractor.closeFile();
  }
}
