import { type Digest, digestAlgorithm, digestHex } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { goJson, goMap } from '../base/gojson.ts';
import { compactJson } from '../oci/raw-json.ts';
import { PROVENANCE_PREFIX } from './predicate.ts';

export const SPDX_TYPE = 'https://spdx.dev/Document';
const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';

export const keyReason = 'reason';
export const keySbomCore = 'sbom-core';
export const keyInlineOnly = 'inline-only';

/** What a statement is about: the result itself under one more name, or something of the frontend's own. */
export interface AttestationSubject {
  readonly kind: 'self' | 'raw';
  /** '' = none. */
  readonly name: string;
  readonly digests: readonly string[];
}

/** Something that is said of a result (FEATURES I18): one predicate, or a folder of statements. */
export interface Attestation<R> {
  readonly kind: 'in-toto' | 'bundle';
  readonly metadata: ReadonlyMap<string, Uint8Array>;
  /** Tree that holds the file or folder. */
  readonly ref: R | null;
  readonly path: string;
  /** The predicate, made when it is wanted; only the daemon has such. */
  readonly content?: (signal: AbortSignal) => Promise<Uint8Array>;
  /** '' for a folder of statements of any type. */
  readonly predicateType: string;
  readonly subjects: readonly AttestationSubject[];
}

export type Attestations<R> = ReadonlyMap<string, readonly Attestation<R>[]>;

/** Only for images that carry attestations anyway. */
export function isInlineOnly(attestation: Attestation<unknown>): boolean {
  const value = attestation.metadata.get(keyInlineOnly);
  return value !== undefined && Buffer.from(value).toString() === 'true';
}

/** @throws BuildError for one that says nothing */
export function checkAttestation(attestation: Attestation<unknown>): void {
  const { kind, path, ref, content } = attestation;
  if (kind !== 'bundle' && path === '') throw new BuildError('attestation does not have set path');
  if (ref === null && !content) throw new BuildError('attestation does not have available content');
}

/** What a build is made of is the daemon's to say. */
export function isProvenance(predicateType: string): boolean {
  return predicateType.startsWith(PROVENANCE_PREFIX);
}

/** The document of the result itself comes before those of what went into it. */
export function coreFirst<T extends Attestation<unknown>>(list: readonly T[]): T[] {
  const isCore = ({ metadata, path }: T): boolean => {
    const core = metadata.get(keySbomCore);
    return core !== undefined && path.split('.', 1)[0] === Buffer.from(core).toString();
  };
  return [...list.filter(isCore), ...list.filter((one) => !isCore(one))];
}

export interface Subject {
  readonly name: string;
  readonly digest: Readonly<Record<string, string>>;
}

/** Subjects of an attestation of something that has `self` (FEATURES J34). */
export function subjectsOf(attestation: Attestation<unknown>, self: readonly Subject[]): Subject[] {
  const { subjects } = attestation;
  const all: readonly AttestationSubject[] =
    subjects.length > 0 ? subjects : [{ kind: 'self', name: '', digests: [] }];
  return all.flatMap(({ kind, name, digests }) => {
    if (kind === 'raw') return [{ name: name || '_', digest: digestsByAlgorithm(digests) }];
    const more = name !== '' && name !== '_';
    return self.flatMap((one) => [one, ...(more ? [{ name, digest: one.digest }] : [])]);
  });
}

export function digestsByAlgorithm(digests: readonly string[]): Record<string, string> {
  return Object.fromEntries(digests.map((d) => [digestAlgorithm(d), digestHex(d as Digest)]));
}

/**
 * An in-toto statement as compact JSON. @param predicate JSON text; '' is null @throws BuildError when it is no JSON
 */
export function encodeStatement(
  predicateType: string,
  subjects: readonly Subject[],
  predicate: string,
): string {
  const subject = subjects.map(({ name, digest }) => ({ name, digest: goMap(digest) }));
  const head = goJson({ _type: STATEMENT_TYPE, predicateType, subject });
  return `${head.slice(0, -1)},"predicate":${predicate === '' ? 'null' : compactJson(predicate)}}`;
}
