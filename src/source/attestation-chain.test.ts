import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { encodeManifest } from '../oci/manifest.ts';
import { mediaTypeInToto, mediaTypeOciIndex, mediaTypeOciManifest } from '../oci/media-types.ts';
import { resolveAttestationChain } from './attestation-chain.ts';
import type { ImageOrigin } from './image-origin.ts';

const SIGSTORE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const COSIGN = 'application/vnd.dev.cosign.artifact.sig.v1+json';
const AMD64 = { os: 'linux', architecture: 'amd64' };
const signal = new AbortController().signal;

/** Blobs by digest and who refers to whom. */
class Repository {
  readonly blobs = new Map<Digest, Uint8Array>();
  readonly referrers = new Map<Digest, Descriptor[]>();
  read: Digest[] = [];

  put(text: string | Uint8Array, mediaType: string, more: Partial<Descriptor> = {}): Descriptor {
    const data = Buffer.from(text);
    const digest = digestOf(data);
    this.blobs.set(digest, data);
    return { mediaType, digest, size: data.length, ...more };
  }

  manifest(layers: readonly Descriptor[], more: Partial<Descriptor> = {}, note = ''): Descriptor {
    const config = this.put('{}', 'c');
    const annotations = note === '' ? {} : { annotations: { note } };
    const manifest = {
      kind: 'manifest',
      mediaType: mediaTypeOciManifest,
      config,
      layers,
      ...annotations,
    } as const;
    return this.put(encodeManifest(manifest), mediaTypeOciManifest, more);
  }

  origin(root: Descriptor): ImageOrigin {
    return {
      name: 'x',
      resolve: async () => root,
      fetchAll: async ({ digest }) => {
        this.read.push(digest);
        return this.blobs.get(digest) ?? assert.fail(digest);
      },
      open: () => assert.fail('not opened'),
      referrers: async (digest) => this.referrers.get(digest) ?? [],
    };
  }
}

function indexOf(repository: Repository, manifests: readonly Descriptor[]): Descriptor {
  const text = encodeManifest({ kind: 'index', mediaType: mediaTypeOciIndex, manifests });
  return repository.put(text, mediaTypeOciIndex);
}

test('the statements that are wanted, and the best signature with all of it', async () => {
  const repository = new Repository();
  const other = repository.manifest([], { platform: { ...AMD64, architecture: 'arm64' } }, 'other');
  const image = repository.manifest([], { platform: AMD64 });
  const statement = (type: string) =>
    repository.put(type, mediaTypeInToto, { annotations: { 'in-toto.io/predicate-type': type } });
  const [wanted, unwanted] = [statement('a'), statement('b')];
  const said = repository.manifest([wanted, unwanted], {
    platform: { os: 'unknown', architecture: 'unknown' },
    annotations: {
      'vnd.docker.reference.type': 'attestation-manifest',
      'vnd.docker.reference.digest': image.digest,
    },
  });
  const bare = repository.manifest([], { artifactType: COSIGN }, 'bare');
  const signature = repository.put('signed', SIGSTORE);
  const bundle = repository.manifest([signature], { artifactType: SIGSTORE });
  repository.referrers.set(said.digest, [bare, bundle]);
  const root = indexOf(repository, [other, image, said]);
  const chain = await resolveAttestationChain(repository.origin(root), AMD64, ['a'], signal);
  assert.equal(chain?.root, root.digest);
  assert.equal(chain.imageManifest, image.digest);
  assert.equal(chain.attestationManifest, said.digest);
  assert.deepEqual(chain.signatureManifests, [bundle.digest]);
  const expected = [root, said, bundle, signature, wanted].map(({ digest }) => digest);
  assert.deepEqual([...chain.blobs.keys()], expected);
  assert.deepEqual(repository.read, expected);
  await assert.rejects(
    resolveAttestationChain(repository.origin(root), { os: 'windows', architecture: 'amd64' }, [], signal),
    { message: 'no manifest for platform windows/amd64: not found' },
  );
});

test('an image of which nothing is said, and one that is no index', async () => {
  const repository = new Repository();
  const image = repository.manifest([], { platform: AMD64 });
  const root = indexOf(repository, [image]);
  const chain = await resolveAttestationChain(repository.origin(root), AMD64, ['a'], signal);
  assert.equal(chain?.attestationManifest, undefined);
  assert.deepEqual(chain?.signatureManifests, []);
  assert.equal(await resolveAttestationChain(repository.origin(image), AMD64, [], signal), undefined);
});

test('what would not fit an answer, and what is not what it is called, are refused', async () => {
  const repository = new Repository();
  const image = repository.manifest([], { platform: AMD64 });
  const root = indexOf(repository, [image]);
  const large = { ...root, size: 16 << 20 };
  await assert.rejects(resolveAttestationChain(repository.origin(large), AMD64, [], signal), {
    message: 'attestations of x are larger than 15728640 bytes',
  });
  repository.blobs.set(root.digest, Buffer.from('{}'));
  await assert.rejects(
    resolveAttestationChain(repository.origin(root), AMD64, [], signal),
    /digest mismatch/,
  );
});
