import { type Digest, digestAlgorithm, digestHex } from '../base/digest.ts';
import { BuildError, Code, invalidArgument } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { type ObjectReference, parseObjectReference } from '../oci/object-reference.ts';
import type { OpContext } from '../solver/types.ts';
import { goInteger, safeFileName } from './http-spec.ts';
import { recordType } from './image-spec.ts';
import { layoutPlace, type LayoutPlace } from './oci-layout.ts';
import { makeSingleFile, type SingleFileServices } from './single-file.ts';
import type { SourceInstance, SourceKey } from './source.ts';

export type BlobScheme = 'docker-image+blob' | 'oci-layout+blob';

/** What `docker-image+blob://REPO@DIGEST`, `oci-layout+blob://…` and their attributes ask for (FEATURES D34). */
export interface BlobSpec {
  readonly reference: ObjectReference;
  readonly digest: Digest;
  /** Where a client's blob is; undefined for a registry's. */
  readonly place?: LayoutPlace;
  /** '' = the hexadecimal part of the digest. */
  readonly filename: string;
  readonly perm: number;
  readonly uid: number;
  readonly gid: number;
}

/** @throws invalidArgument */
export function blobSpec(
  scheme: BlobScheme,
  rest: string,
  attrs: Readonly<Record<string, string>>,
): BlobSpec {
  const reference = parseObjectReference(rest);
  if (reference.digest === undefined)
    throw invalidArgument('invalid reference digest: invalid checksum digest format');
  recordType(attrs['image.recordtype'] ?? '');
  const filename = attrs['http.filename'];
  const place = scheme === 'oci-layout+blob' ? layoutPlace(attrs) : undefined;
  if (place?.storeId === '') throw invalidArgument('oci-layout blob source requires store id');
  return {
    reference,
    digest: reference.digest,
    ...(place ? { place } : {}),
    filename: filename === undefined ? '' : safeFileName(filename),
    perm: goInteger(attrs, 'http.perm'),
    uid: goInteger(attrs, 'http.uid'),
    gid: goInteger(attrs, 'http.gid'),
  };
}

export interface BlobSourceServices extends SingleFileServices {
  readonly key: (input: Pick<BlobSpec, 'digest' | 'filename' | 'perm' | 'uid' | 'gid'>) => Digest;
  readonly open: (spec: BlobSpec, context: OpContext) => AsyncIterable<Uint8Array>;
}

/** One blob of a registry or of a client's layout, as a file. */
export class BlobSource implements SourceInstance {
  readonly #spec: BlobSpec;
  readonly #services: BlobSourceServices;

  constructor(spec: BlobSpec, services: BlobSourceServices) {
    this.#spec = spec;
    this.#services = services;
  }

  async cacheKey(): Promise<SourceKey> {
    const { digest, filename, perm, uid, gid } = this.#spec;
    const key = this.#services.key({ digest, filename, perm, uid, gid });
    return { key, pin: digest, done: true };
  }

  async snapshot(context: OpContext): Promise<ImmutableRef> {
    const { reference, digest: wanted, filename, perm, uid, gid } = this.#spec;
    const name = filename || digestHex(wanted);
    const file = { name, perm, uid, gid, algorithm: digestAlgorithm(wanted) };
    const body = this.#services.open(this.#spec, context);
    const made = await makeSingleFile(this.#services, `blob ${reference.text}`, file, body, context.signal);
    if (made.digest === wanted) return made.ref;
    await made.ref.release();
    throw new BuildError(`unexpected digest of blob ${reference.text}: ${made.digest}`, {
      code: Code.failedPrecondition,
    });
  }
}
