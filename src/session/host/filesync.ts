import { BuildError, Code } from '../../base/errors.ts';
import { type RegisteredService, service } from '../../rpc/server.ts';
import type { ServerCall } from '../../rpc/types.ts';
import { sendTree } from '../fsutil/sender.ts';
import { directorySource, type DirectorySourceOptions, type TreeSource } from '../fsutil/source.ts';
import type { FsStat } from '../fsutil/stat.ts';
import {
  decodeHeaderValues,
  DIR_NAME,
  ENCODED_SUFFIX,
  EXCLUDE_PATTERNS,
  FileSyncDefinition,
  FOLLOW_PATHS,
  INCLUDE_PATTERNS,
} from '../wire.ts';

/** A folder that the daemon may read: a path, or a function that makes a source of the daemon's filter. */
export type OfferedDirectory = string | ((filter: DirectorySourceOptions) => TreeSource);

export interface FileSyncOptions {
  /** Told of bytes sent, for each transfer. */
  readonly onProgress?: (name: string, bytes: number, done: boolean) => void;
}

/** Owner of everything sent: the user's own ids mean nothing to a build (FEATURES C12). */
export function resetOwner(stat: FsStat): boolean {
  stat.uid = 0;
  stat.gid = 0;
  return true;
}

/** Lends local folders by name (FEATURES C6-C12). */
export function fileSyncService(
  directories: Readonly<Record<string, OfferedDirectory>>,
  options: FileSyncOptions = {},
): RegisteredService {
  return service(FileSyncDefinition, {
    diffCopy: async (stream, call) => {
      const name = values(call, DIR_NAME)?.[0] ?? '';
      const directory = Object.hasOwn(directories, name) ? directories[name] : undefined;
      if (directory === undefined)
        throw new BuildError(`no access allowed to dir ${JSON.stringify(name)}`, { code: Code.notFound });
      const filter = filterOf(call);
      const source = typeof directory === 'string' ? directorySource(directory, filter) : directory(filter);
      const { onProgress } = options;
      await sendTree(
        stream,
        source,
        onProgress ? { onProgress: (n, done) => onProgress(name, n, done) } : {},
      );
    },
    tarStream: async () => {
      throw new BuildError('tarstream not supported', { code: Code.unimplemented });
    },
  });
}

function values(call: ServerCall, key: string): string[] | undefined {
  const raw = call.metadata.getAll(key);
  return raw.length > 0 ? decodeHeaderValues(raw, call.metadata.get(`${key}${ENCODED_SUFFIX}`)) : undefined;
}

function filterOf(call: ServerCall): DirectorySourceOptions {
  const includePatterns = values(call, INCLUDE_PATTERNS);
  const excludePatterns = values(call, EXCLUDE_PATTERNS);
  const followPaths = values(call, FOLLOW_PATHS);
  return {
    ...(includePatterns && { includePatterns }),
    ...(excludePatterns && { excludePatterns }),
    ...(followPaths && { followPaths }),
    map: resetOwner,
  };
}
