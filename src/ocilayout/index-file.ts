import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { BuildError, errno } from '../base/errors.ts';
import { makeDirs } from '../base/make-dirs.ts';
import { mediaTypeOciIndex } from '../oci/media-types.ts';
import { tryFlock } from '../sys/file.ts';

const ANNOTATION_NAME = 'io.containerd.image.name';
const ANNOTATION_REF = 'org.opencontainers.image.ref.name';

/** A descriptor as it is written in JSON; what we do not know of it is kept. */
export interface IndexedDescriptor {
  readonly digest: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** What an entry of a layout's index is found by. */
export type IndexName = { readonly name: string } | { readonly tag: string };

/**
 * Adds a descriptor to the `index.json` of an OCI layout folder under each of the names, in place of what had
 * them. Makes the layout when there is none.
 * @throws BuildError when somebody else writes it now or it is no index
 */
export function putIntoIndex(dir: string, descriptor: IndexedDescriptor, names: readonly IndexName[]): void {
  makeDirs(dir);
  const path = join(dir, 'index.json');
  const lock = `${path}.lock`;
  const fd = openSync(lock, constants.O_RDONLY | constants.O_CREAT, 0o600);
  try {
    if (!tryFlock(fd, 'exclusive')) throw new BuildError(`could not lock ${lock}`);
    try {
      writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
      const index = readIndex(path);
      for (const name of names) insert(index.manifests, descriptor, name);
      const temporary = `${path}.new`;
      writeFileSync(temporary, JSON.stringify(index));
      renameSync(temporary, path);
    } finally {
      rmSync(lock, { force: true });
    }
  } finally {
    closeSync(fd);
  }
}

/** The entries of a layout folder's index; none when there is no index. @throws BuildError for what is no index */
export function readLayoutIndex(dir: string): readonly IndexedDescriptor[] {
  return readIndex(join(dir, 'index.json')).manifests;
}

/** The newest entry that has the tag. @throws when the folder has no index */
export function findInIndex(dir: string, tag: string): IndexedDescriptor | undefined {
  accessSync(join(dir, 'index.json'));
  return readLayoutIndex(dir).findLast(({ annotations }) => annotations?.[ANNOTATION_REF] === tag);
}

interface IndexFile {
  readonly schemaVersion: number;
  readonly mediaType: string;
  manifests: IndexedDescriptor[];
}

function readIndex(path: string): IndexFile {
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

function insert(manifests: IndexedDescriptor[], descriptor: IndexedDescriptor, by: IndexName): void {
  const name = 'name' in by ? by.name : undefined;
  const ref = 'tag' in by ? by.tag : tagOf(by.name);
  const kept = manifests.filter(
    ({ annotations }) => annotations?.[ANNOTATION_NAME] !== name || annotations?.[ANNOTATION_REF] !== ref,
  );
  const annotations = {
    ...descriptor.annotations,
    ...(name === undefined ? {} : { [ANNOTATION_NAME]: name }),
    [ANNOTATION_REF]: ref,
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
