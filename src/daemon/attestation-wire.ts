import type { Attestation, AttestationSubject, Attestations } from '../attest/attestation.ts';
import { invalidArgument } from '../base/errors.ts';
import type { LazyRef } from '../frontend/result.ts';
import type { AttestationChain } from '../source/attestation-chain.ts';
import * as pb from '../pb/gateway.ts';

type Wire = pb.Result['attestations'];

/** What a client or frontend says of its result (FEATURES I18). @throws BuildError for a kind nobody knows */
export function attestationsFromWire(
  wire: Wire,
  refOf: (id: string) => LazyRef | null,
): Attestations<LazyRef> | undefined {
  const entries = Object.entries(wire);
  if (entries.length === 0) return undefined;
  return new Map(
    entries.map(([key, { attestation }]) => [key, attestation.map((one) => fromWire(one, refOf))]),
  );
}

function fromWire(wire: pb.Attestation, refOf: (id: string) => LazyRef | null): Attestation<LazyRef> {
  const { InToto, Bundle } = pb.AttestationKind;
  if (wire.kind !== InToto && wire.kind !== Bundle)
    throw invalidArgument(`unknown attestation kind ${wire.kind}`);
  return {
    kind: wire.kind === Bundle ? 'bundle' : 'in-toto',
    metadata: new Map(Object.entries(wire.metadata)),
    ref: wire.ref ? refOf(wire.ref.id) : null,
    path: wire.path,
    predicateType: wire.inTotoPredicateType,
    subjects: wire.inTotoSubjects.map(subjectFromWire),
  };
}

function subjectFromWire({ kind, name, digest }: pb.InTotoSubject): AttestationSubject {
  const { Self, Raw } = pb.InTotoSubjectKind;
  if (kind !== Self && kind !== Raw) throw invalidArgument(`unknown attestation subject type ${kind}`);
  return { kind: kind === Raw ? 'raw' : 'self', name, digests: digest };
}

/** @throws BuildError for what only the daemon can say */
export function attestationsToWire(attestations: Attestations<LazyRef> | undefined): Wire {
  return Object.fromEntries(
    [...(attestations ?? [])].map(([key, list]) => [key, { attestation: list.map(toWire) }]),
  );
}

function toWire({ kind, metadata, ref, ...rest }: Attestation<LazyRef>): pb.Attestation {
  if (rest.content) throw invalidArgument('attestation callback cannot be sent through gateway');
  return {
    kind: kind === 'bundle' ? pb.AttestationKind.Bundle : pb.AttestationKind.InToto,
    metadata: Object.fromEntries(metadata),
    ref: ref ? { id: ref.id, def: ref.definition } : undefined,
    path: rest.path,
    inTotoPredicateType: rest.predicateType,
    inTotoSubjects: rest.subjects.map((subject) => ({
      kind: subject.kind === 'raw' ? pb.InTotoSubjectKind.Raw : pb.InTotoSubjectKind.Self,
      name: subject.name,
      digest: [...subject.digests],
    })),
  };
}

/** What is said of an image that was looked up (FEATURES I12). */
export function chainToWire(chain: AttestationChain): pb.AttestationChain {
  const blobs = [...chain.blobs].map(([digest, { descriptor, data }]) => {
    const { mediaType, size, annotations = {} } = descriptor;
    const wire = { mediaType, digest, size: BigInt(size), annotations: { ...annotations } };
    return [digest, { descriptor: wire, data }] as const;
  });
  return {
    Root: chain.root,
    ImageManifest: chain.imageManifest,
    AttestationManifest: chain.attestationManifest ?? '',
    SignatureManifests: [...chain.signatureManifests],
    Blobs: Object.fromEntries(blobs),
  };
}
