import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { tryFlock } from '../sys/file.ts';
import type { IndexedDescriptor } from './entries.ts';
import { putIntoIndex } from './index-file.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'layout-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const index = (): { manifests: IndexedDescriptor[] } & Record<string, unknown> =>
  JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8'));
const entries = () =>
  index().manifests.map(({ digest, annotations }) => [
    digest,
    annotations?.['io.containerd.image.name'],
    annotations?.['org.opencontainers.image.ref.name'],
  ]);

test('a layout is made, and a name moves to the newest descriptor', () => {
  const under = join(dir, 'deep/layout');
  const name = 'docker.io/library/x:1';
  putIntoIndex(under, { digest: 'd1' }, [{ name }]);
  dir = under;
  assert.equal(readFileSync(join(dir, 'oci-layout'), 'utf8'), '{"imageLayoutVersion":"1.0.0"}');
  const other = { name: 'localhost:5000/y@sha256:1' };
  putIntoIndex(dir, { digest: 'd2', size: 7, annotations: { a: 'b' } } as IndexedDescriptor, [
    other,
    { name },
  ]);
  putIntoIndex(dir, { digest: 'd3' }, [{ tag: 'latest' }]);
  assert.deepEqual(entries(), [
    ['d2', 'localhost:5000/y@sha256:1', '@sha256:1'],
    ['d2', name, '1'],
    ['d3', undefined, 'latest'],
  ]);
  const { schemaVersion, mediaType, manifests } = index();
  assert.deepEqual([schemaVersion, mediaType], [2, 'application/vnd.oci.image.index.v1+json']);
  assert.equal((manifests[0] as { size?: number }).size, 7);
  assert.equal(manifests[0]?.annotations?.a, 'b');
  assert.ok(!existsSync(join(dir, 'index.json.lock')));
});

test('one that is being written, or is no index, is left alone', () => {
  const fd = openSync(join(dir, 'index.json.lock'), 'w');
  try {
    assert.ok(tryFlock(fd, 'exclusive'));
    assert.throws(
      () => putIntoIndex(dir, { digest: 'd' }, [{ tag: 't' }]),
      /could not lock .*index.json.lock/,
    );
    assert.ok(existsSync(join(dir, 'index.json.lock')));
  } finally {
    closeSync(fd);
  }
  writeFileSync(join(dir, 'index.json'), 'no index');
  assert.throws(() => putIntoIndex(dir, { digest: 'd' }, [{ tag: 't' }]), /could not unmarshal .*"no index"/);
  assert.equal(readFileSync(join(dir, 'index.json'), 'utf8'), 'no index');
});
