import { readFileSync } from 'node:fs';
import { BuildError, errno } from '../base/errors.ts';
import { mediaTypeOciIndex } from '../oci/media-types.ts';

/** containerd's and the image-spec's names of an entry. */
export const annotationName = 'io.containerd.image.name';
export const annotationRef = 'org.opencontainers.image.ref.name';
/** What the file `oci-layout` holds. */
export const LAYOUT_VERSION = '{"imageLayoutVersion":"1.0.0"}';

/** A descriptor as it is written in JSON; what we do not know of it is kept. */
export interface IndexedDescriptor {
  readonly digest: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** What an entry of a layout's index is found by. */
export type IndexName = { readonly name: string } | { readonly tag: string };

export interface IndexFile {
  readonly schemaVersion: number;
  readonly mediaType: string;
  manifests: IndexedDescriptor[];
}

/** An empty index where there is none. @throws BuildError for what is no index */
export function readIndex(path: string): IndexFile {
  let text = '';
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errno(error) !== 'ENOENT') throw error;
  }
  const empty = { schemaVersion: 2, mediaType: mediaTypeOciIndex };
  if (text === '') return { ...empty, manifests: [] };
  try {
    const parsed = JSON.parse(text) as Partial<IndexFile>;
    return { ...empty, ...parsed, manifests: [...(parsed.manifests ?? [])] };
  } catch (cause) {
    throw new BuildError(`could not unmarshal ${path} (${JSON.stringify(text)})`, { cause });
  }
}

/** Puts a descriptor under a name, in place of what had it. */
export function insertEntry(
  manifests: IndexedDescriptor[],
  descriptor: IndexedDescriptor,
  by: IndexName,
): void {
  const name = 'name' in by ? by.name : undefined;
  const ref = 'tag' in by ? by.tag : tagOf(by.name);
  const kept = manifests.filter(
    ({ annotations }) => annotations?.[annotationName] !== name || annotations?.[annotationRef] !== ref,
  );
  const annotations = {
    ...descriptor.annotations,
    ...(name === undefined ? {} : { [annotationName]: name }),
    [annotationRef]: ref,
  };
  manifests.splice(0, manifests.length, ...kept, { ...descriptor, annotations });
}

/** The tag, or `@` and the digest, of an image's full name; a name without a host stands as it is. */
function tagOf(name: string): string {
  const slash = name.indexOf('/');
  if (slash <= 0) return name;
  const at = name.slice(slash).search(/[:@]/);
  return at < 0 ? '' : name.slice(slash + at).replace(/^:/, '');
}
