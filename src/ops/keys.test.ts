import assert from 'node:assert/strict';
import test from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { Op } from '../llb/ops.ts';
import { platformFromMessage } from '../llb/platform.ts';
import { buildDigest, diffDigest, mergeDigest, passthroughDigest } from './combine-key.ts';
import { execDeps, execDigest } from './exec-key.ts';
import { fileDeps, fileDigest } from './file-key.ts';
import golden from './keys.golden.json' with { type: 'json' };
import type { KeyDep } from './selector-key.ts';
import { chainId, httpKey, imageConfigKey, imageManifestKey, localKey } from '../source/keys.ts';
import { sourceDigest } from './source.ts';

interface Golden {
  readonly op: string;
  readonly digest?: string;
  readonly deps?: readonly { readonly content: boolean; readonly selector: string }[];
  readonly error?: boolean;
}

function keyOf(op: Op): { digest: Digest; deps?: readonly KeyDep[] } {
  const inputs = op.inputs.length;
  switch (op.op?.$case) {
    case 'exec': {
      const platform = op.platform
        ? platformFromMessage(op.platform)
        : { os: 'linux', architecture: 'amd64' };
      return { digest: execDigest(op.op.value, platform), deps: execDeps(op.op.value, inputs) };
    }
    case 'file':
      return { digest: fileDigest(op.op.value, inputs), deps: fileDeps(op.op.value, inputs) };
    case 'build':
      return { digest: buildDigest(op.op.value) };
    case 'merge':
      return { digest: mergeDigest(op.op.value) };
    case 'diff':
      return { digest: diffDigest(op.op.value) };
    case 'passthrough':
      return { digest: passthroughDigest(op.op.value) };
    default:
      throw new Error('no key for this op');
  }
}

for (const [name, { op, digest, deps, error }] of Object.entries(golden as Record<string, Golden>)) {
  test(`cache key of ${name} is the one of the reference daemon`, () => {
    const message = Op.decode(Buffer.from(op, 'base64'));
    if (error) return assert.throws(() => keyOf(message));
    const key = keyOf(message);
    assert.equal(key.digest, digest);
    const simple = key.deps?.map((dep) => ({ content: dep.content !== undefined, selector: dep.selector }));
    assert.deepEqual(simple, deps);
  });
}

const X = digestOf('x');

test('image keys', () => {
  const linux = { os: 'linux', architecture: 'amd64' };
  assert.equal(
    imageManifestKey({ digest: X, platform: linux }),
    'sha256:ca9a48da377e3a98e4cbc164305b0a5affe1dd84ee62e40423da4a9d88a77425',
  );
  const arm = { os: 'linux', architecture: 'arm', variant: 'v7', osVersion: '1', osFeatures: ['a'] };
  assert.equal(
    imageManifestKey({ digest: X, platform: arm, layerLimit: 2 }),
    'sha256:e74e580e3148541e785650da5c287443bc7d10d02fc2e02ee2868e30ae9a26fc',
  );
  assert.equal(
    imageManifestKey({ digest: X, platform: { os: 'linux', architecture: 'arm' }, layerLimit: 0 }),
    'sha256:54010b66d0e20e4f6decc438f2867b3291b8c644355a360a5a8d1542ca0f9870',
  );
  const layers = [X, digestOf('y'), digestOf('z')];
  const chain = 'sha256:5f7ab138b1cc53c6dd78a4f3a7c7d2fcc0c6c4bb7b3ff73effcd839b416f81bd';
  assert.equal(imageConfigKey(layers), chain);
  assert.equal(imageConfigKey(layers, 1), X);
  assert.equal(chainId([]), undefined);
  assert.throws(() => imageConfigKey(layers, 4), { message: 'image has 3 layers, limit is 4' });
});

test('http keys', () => {
  const plain = { filename: 'f', perm: 0, uid: 0, gid: 0, checksum: X };
  assert.equal(httpKey(plain), 'sha256:4156a25d3455595caa5014d3d237558fc71c83b5e161ad88f5323b8f255cbbe7');
  const full = {
    filename: 'f&',
    perm: 0o644,
    uid: 1,
    gid: 2,
    checksum: X,
    lastModified: new Date(1_700_000_000_000),
    authHeaderSecret: 's',
    header: [{ name: 'accept', value: 'a' }],
  };
  assert.equal(httpKey(full), 'sha256:eded409255398f95b91c76576e1e7ea87413d79a645975040947100c2b3d319f');
});

test('local keys and source digests', () => {
  const pin = 'sha256:758b4733bf948e54098cd4cc9c204a36499d47fa6b7c4909757e1030e25bf949';
  assert.deepEqual(localKey({ name: 'n', sessionId: 's' }), { key: `session:n:${pin}`, pin });
  const full = {
    name: 'n',
    sessionId: 's',
    includePatterns: [],
    excludePatterns: ['<'],
    followPaths: ['a', 'b'],
    metadataOnly: true,
    metadataExceptions: ['e'],
  };
  assert.equal(localKey(full).pin, 'sha256:db6f56c8a3310723c0055803b0660133a2f34ea03fee9aae547eff18b57469fa');
  assert.equal(
    sourceDigest('key'),
    'sha256:95da640694e43d0a35e218157998caa0954e579599653f3d57586af3b05b3185',
  );
  assert.match(sourceDigest('session:n:x'), /^random:[0-9a-f]{64}$/);
});

test('content of a copy: deduplicated paths, wildcards and patterns apart', () => {
  const copy = (src: string, allowWildcard = false, includePatterns: string[] = []) => ({
    input: 0n,
    secondaryInput: 1n,
    output: 0n,
    action: {
      $case: 'copy' as const,
      value: {
        src,
        dest: '/',
        owner: undefined,
        mode: -1,
        followSymlink: true,
        dirCopyContents: false,
        attemptUnpackDockerCompatibility: false,
        createDestPath: false,
        allowWildcard,
        allowEmptyWildcard: false,
        timestamp: -1n,
        includePatterns,
        excludePatterns: [],
        alwaysReplaceExistingDestPaths: false,
        modeStr: '',
        requiredPaths: [],
      },
    },
  });
  const actions = [
    copy('/b/c'),
    copy('/b'),
    copy('/a*', true),
    copy('/z\\*', true),
    copy('/q', false, ['*.go']),
  ];
  const content = fileDeps({ actions }, 2)[1]?.content;
  assert.deepEqual(
    content?.map((s) => [s.path, s.wildcard, s.includePatterns]),
    [
      ['/a*', true, []],
      ['/b', false, []],
      ['/q', false, ['*.go']],
      ['/z\\*', false, []],
    ],
  );
});
