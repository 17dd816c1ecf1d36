import { closeSync, readFile } from 'node:fs';
import { posix } from 'node:path';
import { promisify } from 'node:util';
import {
  type Attestation,
  checkAttestation,
  coreFirst,
  encodeStatement,
  isProvenance,
  type Subject,
  subjectsOf,
} from '../attest/attestation.ts';
import { BuildError, Code, errno } from '../base/errors.ts';
import { goAny, goJson } from '../base/gojson.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { sortNames } from '../match/paths.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import { fstat } from '../sys/stat.ts';
import type { Statement } from './attestation-manifest.ts';
import type { MountTree } from './exporter.ts';

type RefAttestation = Attestation<ImmutableRef>;

/** One file of statements or predicates, bytes. */
const MAX_ATTESTATION_BYTES = 40 << 20;
/** All statements of one folder, bytes: they are in memory at the same time. */
const MAX_BUNDLE_BYTES = 256 << 20;

export interface ReadContext {
  readonly mount: MountTree;
  readonly signal: AbortSignal;
}

/** An attestation whose predicate is at hand. */
export interface ReadAttestation extends RefAttestation {
  /** JSON text; '' is null. */
  readonly predicate: string;
}

/**
 * The attestations with folders of statements taken apart and predicates read (FEATURES J43).
 * @throws BuildError for what a frontend may not say or what can not be read
 */
export async function readAttestations(
  list: readonly RefAttestation[],
  context: ReadContext,
): Promise<ReadAttestation[]> {
  for (const attestation of list) checkAttestation(attestation);
  const read = list.map((one) => (one.kind === 'bundle' ? readBundle(one, context) : readOne(one, context)));
  return coreFirst((await Promise.all(read)).flat());
}

async function readOne(attestation: RefAttestation, context: ReadContext): Promise<ReadAttestation[]> {
  const { content, ref, path, predicateType } = attestation;
  if (isProvenance(predicateType) && !content)
    throw new BuildError('frontend may not set provenance attestations');
  if (content) {
    const predicate = Buffer.from(await content(context.signal)).toString();
    return [{ ...attestation, predicate }];
  }
  try {
    const predicate = await inTree(ref!, context, (root) => readText(root, path));
    return [{ ...attestation, predicate }];
  } catch (error) {
    context.signal.throwIfAborted();
    throw BuildError.wrap(error, 'cannot read in-toto attestation');
  }
}

async function readBundle(bundle: RefAttestation, context: ReadContext): Promise<ReadAttestation[]> {
  if (bundle.content) throw new BuildError('attestation bundle cannot have callback');
  if (!bundle.ref) throw new BuildError('no ref provided for attestation bundle');
  return await inTree(bundle.ref, context, async (root) => {
    const dir = root.resolve(posix.join('/', bundle.path));
    const found: ReadAttestation[] = [];
    let left = MAX_BUNDLE_BYTES;
    for (const name of sortNames(root.readdir(dir))) {
      context.signal.throwIfAborted();
      const text = await readText(root, posix.join(dir, name));
      left -= text.length;
      if (left < 0)
        throw new BuildError(`attestation bundle exceeds ${MAX_BUNDLE_BYTES} bytes`, {
          code: Code.resourceExhausted,
        });
      found.push(unbundled(bundle, name, parseStatement(text)));
    }
    return found;
  });
}

interface FoundStatement {
  readonly predicateType: string;
  readonly subject: readonly Subject[];
  readonly predicate: unknown;
}

function parseStatement(text: string): FoundStatement {
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch (error) {
    throw BuildError.wrap(error, 'cannot decode in-toto statement');
  }
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields))
    throw new BuildError('cannot decode in-toto statement: it is no JSON object');
  const { predicateType, subject, predicate = null } = fields as Record<string, unknown>;
  return {
    predicateType: typeof predicateType === 'string' ? predicateType : '',
    subject: Array.isArray(subject) ? subject.map(parseSubject) : [],
    predicate,
  };
}

function parseSubject(value: unknown): Subject {
  const { name, digest } = (value ?? {}) as { name?: unknown; digest?: unknown };
  const pairs = Object.entries(digest ?? {}).filter((pair): pair is [string, string] => {
    return typeof pair[1] === 'string';
  });
  return { name: typeof name === 'string' ? name : '', digest: Object.fromEntries(pairs) };
}

function unbundled(bundle: RefAttestation, name: string, statement: FoundStatement): ReadAttestation {
  const { predicateType, subject, predicate } = statement;
  const wanted = bundle.predicateType;
  if (wanted !== '' && predicateType !== wanted)
    throw new BuildError(`bundle entry ${predicateType} does not match required predicate type ${wanted}`);
  if (isProvenance(predicateType)) throw new BuildError('frontend may not bundle provenance attestations');
  return {
    kind: 'in-toto',
    metadata: bundle.metadata,
    ref: bundle.ref,
    path: posix.join(bundle.path, name),
    predicateType,
    subjects: subject.map((one) => ({
      kind: 'raw',
      name: one.name,
      digests: Object.entries(one.digest).map(([algorithm, hex]) => `${algorithm}:${hex}`),
    })),
    predicate: goJson(goAny(predicate)),
  };
}

async function inTree<T>(
  ref: ImmutableRef,
  { mount, signal }: ReadContext,
  work: (root: Rootfs) => Promise<T>,
): Promise<T> {
  const tree = await mount(await ref.mount(true, { signal }));
  try {
    using root = openRootfs(tree.path);
    return await work(root);
  } finally {
    await tree.release();
  }
}

async function readText(root: Rootfs, path: string): Promise<string> {
  const fd = openFile(root, path);
  try {
    if (fstat(fd).size > MAX_ATTESTATION_BYTES)
      throw new BuildError(`${path} exceeds ${MAX_ATTESTATION_BYTES} bytes`);
    return await readWhole(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

const readWhole = promisify(readFile);

function openFile(root: Rootfs, path: string): number {
  try {
    return root.openFile(path);
  } catch (error) {
    if (errno(error) !== 'EINVAL') throw error;
    throw new BuildError(`${path} is not a regular file`, { cause: error });
  }
}

/** The statements as compact JSON, each about `self` unless it says otherwise (FEATURES J34). */
export function statementsOf(list: readonly ReadAttestation[], self: readonly Subject[]): Statement[] {
  return list.map((one) => {
    const text = encodeStatement(one.predicateType, subjectsOf(one, self), one.predicate);
    return { predicateType: one.predicateType, data: Buffer.from(text) };
  });
}
