import { TarType } from '../archive/tar-header.ts';
import { encodeTarHeader, padding, TAR_END } from '../archive/tar-writer.ts';
import { BuildError } from '../base/errors.ts';
import type { TreeSource } from '../session/fsutil/source.ts';
import {
  fileTimeOf,
  type FsStat,
  GO_CHAR_DEVICE,
  GO_DEVICE,
  GO_NAMED_PIPE,
  isDir,
  isSymlink,
  unixPermissions,
} from '../session/fsutil/stat.ts';
import type { TreeServices } from './attestation-files.ts';
import type { Attrs } from './attrs.ts';
import {
  type ExportContext,
  type Exporter,
  type ExportResult,
  type ExportSource,
  type ExportTarget,
  oneOff,
} from './exporter.ts';
import { oneTree } from './local.ts';
import { isMultiRef } from './platforms.ts';
import { mountTrees, parseTreeAttrs, type TreeAttrs } from './trees.ts';

/** Small pieces are sent together. */
const CHUNK_BYTES = 256 * 1024;

/** Files as one tar stream to the client (FEATURES J20). */
export class TarExporter implements Exporter {
  readonly type = 'tar';
  readonly name = 'exporting to client tarball';
  readonly attrs: Attrs;
  readonly #parsed: TreeAttrs;
  readonly #services: TreeServices;
  readonly #target: Pick<ExportTarget, 'openFile'>;

  /** @throws for attributes that have a bad value */
  constructor(attrs: Attrs, services: TreeServices, target: Pick<ExportTarget, 'openFile'>) {
    this.attrs = attrs;
    this.#parsed = parseTreeAttrs(attrs);
    this.#services = services;
    this.#target = target;
  }

  async export(source: ExportSource, context: ExportContext): Promise<ExportResult> {
    await using stack = new AsyncDisposableStack();
    const trees = await mountTrees(source, this.#parsed, this.#services, context, stack);
    // `platform-split` is taken and has no effect here: upstream's archives are split always, too.
    const tree = await oneTree(trees, isMultiRef(source));
    await using sink = await this.#target.openFile({ signal: context.signal });
    await oneOff(context.progress, 'sending tarball', async () => {
      for await (const chunk of gathered(treeArchive(tree))) {
        context.signal.throwIfAborted();
        await sink.write(chunk);
      }
      await sink.close();
    });
    return { response: {}, release: () => {} };
  }
}

async function* treeArchive(tree: TreeSource): AsyncGenerator<Uint8Array, void> {
  for await (const stat of tree.entries()) {
    const type = entryType(stat);
    const size = type === TarType.file ? stat.size : 0;
    yield header(stat, type, size);
    if (size === 0) continue;
    let written = 0;
    for await (const chunk of tree.read(stat.path)) {
      written += chunk.length;
      yield chunk;
    }
    if (written !== size) throw new BuildError(`${stat.path}: size changed while it was read`);
    yield TAR_END.subarray(0, padding(size));
  }
  yield TAR_END;
}

function entryType(stat: FsStat): string {
  if (isDir(stat.mode)) return TarType.dir;
  if (isSymlink(stat.mode)) return TarType.symlink;
  if (stat.linkname !== '') return TarType.link;
  if (stat.mode & GO_DEVICE) return stat.mode & GO_CHAR_DEVICE ? TarType.char : TarType.block;
  return stat.mode & GO_NAMED_PIPE ? TarType.fifo : TarType.file;
}

function header(stat: FsStat, type: string, size: number): Uint8Array {
  const { sec, nsec } = fileTimeOf(stat.modTime);
  const isDevice = type === TarType.char || type === TarType.block;
  return encodeTarHeader({
    name: type === TarType.dir ? `${stat.path}/` : stat.path,
    type,
    mode: unixPermissions(stat.mode),
    uid: stat.uid,
    gid: stat.gid,
    size,
    // Rounded, not cut, as layers are.
    mtime: { sec: sec + (nsec >= 500_000_000 ? 1 : 0), nsec: 0 },
    linkname: stat.linkname,
    devMajor: isDevice ? stat.devmajor : 0,
    devMinor: isDevice ? stat.devminor : 0,
    ...(stat.xattrs ? { xattrs: new Map(Object.entries(stat.xattrs)) } : {}),
  });
}

async function* gathered(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  let waiting: Uint8Array[] = [];
  let size = 0;
  for await (const piece of pieces) {
    waiting.push(piece);
    size += piece.length;
    if (size < CHUNK_BYTES) continue;
    yield Buffer.concat(waiting);
    waiting = [];
    size = 0;
  }
  if (size > 0) yield Buffer.concat(waiting);
}
