import { BuildError } from '../base/errors.ts';
import {
  type Attestation as AttestationMessage,
  AttestationKind,
  InTotoSubjectKind,
  type Result as ResultMessage,
  type SolveResponse,
} from '../pb/gateway.ts';
import type { Caps } from './caps.ts';
import type { Attestation, FrontendResult, Reference, SolvedResult } from './types.ts';

/** A tree as the wire has it. */
interface RefMessage {
  readonly id: string;
  readonly def: ResultMessageRef['def'];
}
type ResultMessageRef = NonNullable<AttestationMessage['ref']>;
/** undefined for the empty tree. */
type MakeReference = (ref: RefMessage) => Reference | undefined;

export function resultFromWire({ ref, result }: SolveResponse, make: MakeReference): SolvedResult {
  if (!result) return { ref: make({ id: ref, def: undefined }), metadata: {} };
  return {
    ...treesFromWire(result.result, make),
    metadata: result.metadata,
    ...(Object.keys(result.attestations).length > 0
      ? {
          attestations: mapped(result.attestations, ({ attestation }) =>
            attestation.map((one) => attestationFromWire(one, make)),
          ),
        }
      : {}),
  };
}

function treesFromWire(
  result: ResultMessage['result'],
  make: MakeReference,
): Pick<FrontendResult, 'ref' | 'refs'> {
  const byId = (id: string) => make({ id, def: undefined });
  switch (result?.$case) {
    case 'ref':
      return { ref: make(result.value) };
    case 'refs':
      return { refs: mapped(result.value.refs, make) };
    case 'refDeprecated':
      return { ref: byId(result.value) };
    case 'refsDeprecated':
      return { refs: mapped(result.value.refs, byId) };
    default:
      return {};
  }
}

function attestationFromWire(message: AttestationMessage, make: MakeReference): Attestation {
  return {
    kind: message.kind === AttestationKind.Bundle ? 'bundle' : 'in-toto',
    metadata: message.metadata,
    ref: message.ref && make(message.ref),
    path: message.path,
    predicateType: message.inTotoPredicateType,
    subjects: message.inTotoSubjects.map(({ kind, name, digest }) => ({
      kind: kind === InTotoSubjectKind.Raw ? 'raw' : 'self',
      name,
      digests: digest,
    })),
  };
}

/** @param toWire gives the message of a tree that came from this build */
export function resultToWire(
  result: FrontendResult,
  caps: Caps,
  toWire: (ref: Reference | undefined) => ResultMessageRef,
): ResultMessage {
  const encoder = new TextEncoder();
  const { refs } = result;
  if (refs && Object.keys(refs).length > 1) caps.need('returnmap');
  return {
    result: treesToWire(result, caps.has('proto.refarray'), toWire),
    metadata: mapped(result.metadata ?? {}, (value) =>
      typeof value === 'string' ? encoder.encode(value) : value,
    ),
    attestations: mapped(result.attestations ?? {}, (all) => ({
      attestation: all.map((one) => attestationToWire(one, toWire)),
    })),
  };
}

function treesToWire(
  { ref, refs }: FrontendResult,
  messages: boolean,
  toWire: (ref: Reference | undefined) => ResultMessageRef,
): ResultMessage['result'] {
  if (!refs) {
    const value = toWire(ref);
    return messages ? { $case: 'ref', value } : { $case: 'refDeprecated', value: value.id };
  }
  return messages
    ? { $case: 'refs', value: { refs: mapped(refs, toWire) } }
    : { $case: 'refsDeprecated', value: { refs: mapped(refs, (one) => toWire(one).id) } };
}

function attestationToWire(
  { kind, metadata, ref, path, predicateType, subjects }: Attestation,
  toWire: (ref: Reference | undefined) => ResultMessageRef,
): AttestationMessage {
  if (kind !== 'in-toto' && kind !== 'bundle')
    throw new BuildError(`unknown kind of attestation ${JSON.stringify(kind)}: in-toto or bundle is meant`);
  return {
    kind: kind === 'bundle' ? AttestationKind.Bundle : AttestationKind.InToto,
    metadata: { ...metadata },
    ref: ref && toWire(ref),
    path,
    inTotoPredicateType: predicateType ?? '',
    inTotoSubjects: (subjects ?? []).map((subject) => ({
      kind: subject.kind === 'raw' ? InTotoSubjectKind.Raw : InTotoSubjectKind.Self,
      name: subject.name,
      digest: [...subject.digests],
    })),
  };
}

function mapped<A, B>(all: Readonly<Record<string, A>>, change: (one: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(all).map(([key, value]) => [key, change(value)]));
}
