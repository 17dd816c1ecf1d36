import { type Digest, digestHex } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { goJson } from '../base/gojson.ts';
import { encodeTarHeader, padding, TAR_END } from '../archive/tar-writer.ts';
import { TarType } from '../archive/tar-header.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { encodeManifest, parseManifest } from '../oci/manifest.ts';
import { mediaTypeOciIndex } from '../oci/media-types.ts';
import { familiarReference, parseReference } from '../oci/reference.ts';
import type { ContentStore } from '../store/content.ts';
import { readTree } from './push.ts';

const OCI_LAYOUT = '{"imageLayoutVersion":"1.0.0"}';
const ANNOTATION_IMAGE_NAME = 'io.containerd.image.name';
const ANNOTATION_REF_NAME = 'org.opencontainers.image.ref.name';

/** One file or directory of an image archive. */
export interface ArchiveEntry {
  readonly name: string;
  readonly mode: number;
  /** undefined for a directory. */
  readonly size?: number;
  read?(signal: AbortSignal): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

function file(name: string, mode: number, data: Uint8Array): ArchiveEntry {
  return { name, mode, size: data.length, read: () => [data] };
}

/** `index.json` of an archive or layout: one entry for each name, all of the same image (FEATURES J21). */
export function layoutIndex(descriptor: Descriptor, names: readonly string[]): Uint8Array {
  const manifests = names.length
    ? names.map((name) => ({
        ...descriptor,
        annotations: {
          ...descriptor.annotations,
          [ANNOTATION_IMAGE_NAME]: name,
          [ANNOTATION_REF_NAME]: parseReference(name).tag ?? '',
        },
      }))
    : [descriptor];
  return encodeManifest({ kind: 'index', mediaType: mediaTypeOciIndex, manifests }, { indent: '' });
}

export interface ArchiveOptions {
  readonly names: readonly string[];
  readonly docker: boolean;
  /** Waits until a blob, which may still be on its way, is in the content store. */
  readonly there: (digest: Digest) => Promise<void>;
  readonly signal: AbortSignal;
}

/** All entries of the archive of an image, by name. `docker` adds Docker's `manifest.json` (FEATURES J22). */
export async function archiveEntries(
  content: ContentStore,
  descriptor: Descriptor,
  options: ArchiveOptions,
): Promise<ArchiveEntry[]> {
  const tree = await readTree(content, descriptor.digest, options.signal);
  const entries = new Map<string, ArchiveEntry>();
  const add = (entry: ArchiveEntry): void => void entries.set(entry.name, entry);
  add({ name: 'blobs/', mode: 0o755 });
  add({ name: 'blobs/sha256/', mode: 0o755 });
  for (const { digest, size } of [...tree.manifests, ...tree.blobs]) {
    const read = async function* (signal: AbortSignal) {
      await options.there(digest);
      yield* content.read(digest, { signal });
    };
    add({ name: `blobs/sha256/${digestHex(digest)}`, mode: 0o444, size, read });
  }
  add(file('oci-layout', 0o444, Buffer.from(OCI_LAYOUT)));
  add(file('index.json', 0o644, layoutIndex(descriptor, options.names)));
  if (options.docker) {
    const manifest = await dockerManifest(content, descriptor, options.names, options.signal);
    if (manifest) add(file('manifest.json', 0o644, manifest));
  }
  return [...entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** undefined for an index: Docker's form knows single images only. */
async function dockerManifest(
  content: ContentStore,
  descriptor: Descriptor,
  names: readonly string[],
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const data = await content.readAll(descriptor.digest, { signal });
  const manifest = parseManifest(data, descriptor.mediaType);
  if (manifest.kind === 'index') return undefined;
  const path = (blob: Descriptor): string => `blobs/sha256/${digestHex(blob.digest)}`;
  const tags = names.map((name) => familiarReference(parseReference(name)));
  const entry = {
    Config: path(manifest.config),
    RepoTags: tags.length ? tags : null,
    Layers: manifest.layers.length ? manifest.layers.map(path) : null,
  };
  return Buffer.from(goJson([entry]));
}

/** The entries as a tar stream: owner and times 0, so that equal images are equal archives. */
export async function* archiveStream(
  entries: readonly ArchiveEntry[],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  for (const entry of entries) {
    const size = entry.size ?? 0;
    yield encodeTarHeader({
      name: entry.name,
      type: entry.size === undefined ? TarType.dir : TarType.file,
      mode: entry.mode,
      uid: 0,
      gid: 0,
      size,
      mtime: { sec: 0, nsec: 0 },
      linkname: '',
      devMajor: 0,
      devMinor: 0,
    });
    let written = 0;
    for await (const chunk of entry.read?.(signal) ?? []) {
      written += chunk.length;
      yield chunk;
    }
    if (written !== size) throw new BuildError(`${entry.name} has ${written} bytes instead of ${size}`);
    if (padding(size) > 0) yield TAR_END.subarray(0, padding(size));
  }
  yield TAR_END;
}
