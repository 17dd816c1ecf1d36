import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Capture } from '../attest/capture.ts';
import { LazyRef } from '../frontend/result.ts';
import { Attestation } from '../pb/gateway.ts';
import { attestationsFromWire, attestationsToWire } from './attestation-wire.ts';

const ref = new LazyRef(undefined, async () => ({
  ref: null,
  capture: new Capture(),
  layers: async () => [],
}));
const refOf = (id: string) => (id === ref.id ? ref : assert.fail(id));

const wire = Attestation.fromPartial({
  kind: 1,
  metadata: { reason: Buffer.from('sbom') },
  ref: { id: ref.id },
  path: 'p',
  inTotoPredicateType: 't',
  inTotoSubjects: [
    { kind: 0, name: 'n' },
    { kind: 1, name: '', digest: ['sha256:ab'] },
  ],
});

test('attestations travel both ways', () => {
  const told = attestationsFromWire({ 'linux/amd64': { attestation: [wire] } }, refOf);
  assert.deepEqual(told?.get('linux/amd64'), [
    {
      kind: 'bundle',
      metadata: new Map([['reason', Buffer.from('sbom')]]),
      ref,
      path: 'p',
      predicateType: 't',
      subjects: [
        { kind: 'self', name: 'n', digests: [] },
        { kind: 'raw', name: '', digests: ['sha256:ab'] },
      ],
    },
  ]);
  assert.deepEqual(attestationsToWire(told), { 'linux/amd64': { attestation: [wire] } });
  assert.equal(attestationsFromWire({}, refOf), undefined);
  assert.deepEqual(attestationsToWire(undefined), {});
});

test('what nobody knows is refused, and what the daemon says itself stays here', () => {
  const one = (over: Parameters<typeof Attestation.fromPartial>[0]) => ({
    k: { attestation: [Attestation.fromPartial(over)] },
  });
  assert.throws(() => attestationsFromWire(one({ kind: 7 as 0 }), refOf), /unknown attestation kind 7/);
  const subjects = one({ inTotoSubjects: [{ kind: 5 as 0 }] });
  assert.throws(() => attestationsFromWire(subjects, refOf), /unknown attestation subject type 5/);
  const [plain] = attestationsFromWire(one({}), refOf)?.get('k') ?? [];
  const own = { ...(plain ?? assert.fail()), content: async () => Buffer.from('') };
  assert.throws(() => attestationsToWire(new Map([['k', [own]]])), {
    message: 'attestation callback cannot be sent through gateway',
  });
});
