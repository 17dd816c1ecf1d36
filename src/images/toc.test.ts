// Layers in estargz, as the check of an image sees them.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeBlob } from '../archive/diff.ts';
import { fileArchive } from '../archive/pack.ts';
import type { JobContext } from '../pool/types.ts';
import { encodeManifest, Layout, mediaTypes, validateImage } from './index.ts';
import { tocDigest } from './toc.ts';

const dir = mkdtempSync(join(tmpdir(), 'toc-'));
after(() => rmSync(dir, { recursive: true }));

const CONTEXT = { throwIfAborted: () => {} } as JobContext;
const TOC = 'containerd.io/snapshot/stargz/toc.digest';
const SIZE = 'io.containers.estargz.uncompressed-size';

async function blobOf(name: string, compression: 'estargz' | 'gzip') {
  const blob = join(dir, name);
  const files = fileArchive([{ name: 'file', data: Buffer.from('content') }]);
  const result = await writeBlob(files, { compression, blob }, CONTEXT);
  return { ...result, data: readFileSync(blob) };
}

/** What is wrong with an image of this layer. */
async function problemsOf(
  { data, diffId }: Awaited<ReturnType<typeof blobOf>>,
  annotations: Record<string, string>,
): Promise<string> {
  const layout = new Layout(mkdtempSync(join(dir, 'layout-')));
  const layer = { ...(await layout.put(mediaTypes.ociLayerGzip, data)), annotations };
  const rootfs = { type: 'layers', diff_ids: [diffId] };
  const text = JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs });
  const config = await layout.put(mediaTypes.ociConfig, Buffer.from(text));
  const mediaType = mediaTypes.ociManifest;
  const manifest = encodeManifest({ kind: 'manifest', mediaType, config, layers: [layer] });
  const { problems } = await validateImage(await layout.put(mediaType, manifest), {
    read: async ({ digest }) => readFileSync(join(layout.path, 'blobs', digest.replace(':', '/'))),
  });
  return problems.join('\n');
}

test('what is said of an estargz layer is held against its bytes', async () => {
  const estargz = await blobOf('estargz', 'estargz');
  const size = String(estargz.archiveSize);
  assert.equal(await problemsOf(estargz, { [TOC]: estargz.tocDigest!, [SIZE]: size }), '');
  const other = `sha256:${'0'.repeat(64)}`;
  const wrong = await problemsOf(estargz, { [TOC]: other, [SIZE]: '7' });
  assert.ok(wrong.includes(`has table of contents ${estargz.tocDigest} and not ${other}`), wrong);
  assert.ok(wrong.includes(`unpacks to ${size} bytes and not to 7`), wrong);
  const gzip = await problemsOf(await blobOf('gzip', 'gzip'), { [TOC]: other });
  assert.ok(gzip.includes(`has no table of contents and not ${other}`), gzip);
});

test('the table is found in a blob that comes in parts, and not where a footer lies', async () => {
  const { data, tocDigest: digest } = await blobOf('parts', 'estargz');
  const parts = async function* () {
    for (let at = 0; at < data.length; at += 7) yield data.subarray(at, at + 7);
  };
  assert.equal(await tocDigest(parts(), data.subarray(-64)), digest);
  for (const cut of [1, 40, 100]) {
    const forged = Buffer.concat([data.subarray(cut), data.subarray(-51)]);
    assert.equal(await tocDigest(forged, forged.subarray(-64)), undefined);
  }
});
