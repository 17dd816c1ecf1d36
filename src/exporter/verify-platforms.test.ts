import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatPlatform, hostPlatform } from '../oci/platform.ts';
import type { ExportSource } from './exporter.ts';
import { platformWarnings } from './verify-platforms.ts';

function built(...ids: string[]): ExportSource {
  const Platforms = ids.map((ID) => {
    const [os, architecture, variant] = ID.split('/');
    return { ID, Platform: { os, architecture, ...(variant ? { variant } : {}) } };
  });
  const metadata = new Map([['refs.platforms', Buffer.from(JSON.stringify({ Platforms }))]]);
  return { ref: null, refs: new Map(ids.map((id) => [id, null])), metadata };
}

function single(config?: object): ExportSource {
  const entries = config ? [['containerimage.config', Buffer.from(JSON.stringify(config))] as const] : [];
  return { ref: null, metadata: new Map(entries) };
}

test('a result that is what was asked for', () => {
  assert.deepEqual(platformWarnings(single(), undefined), []);
  assert.deepEqual(platformWarnings(single(), formatPlatform(hostPlatform())), []);
  assert.deepEqual(platformWarnings(built('linux/arm64', 'linux/amd64'), 'linux/amd64,linux/arm64/v8'), []);
  assert.deepEqual(platformWarnings(built('linux/arm/v7'), 'linux/arm'), []);
  const windows = { os: 'windows', architecture: 'amd64', 'os.version': '10.0.1' };
  assert.deepEqual(platformWarnings(single(windows), 'windows/amd64'), []);
});

test('a result that is something else', () => {
  assert.deepEqual(platformWarnings(single({ os: 'linux', architecture: 's390x' }), 'linux/riscv64'), [
    'Requested platform "linux/riscv64" does not match result platform "linux/s390x"',
  ]);
  assert.deepEqual(platformWarnings(single(), 'linux/amd64,linux/arm64'), [
    'Multiple platforms requested but result is not multi-platform',
  ]);
  assert.deepEqual(platformWarnings(built('linux/arm64', 'linux/386'), 'linux/arm64,linux/amd64'), [
    'Requested platforms linux/amd64,linux/arm64 do not match result platforms linux/386,linux/arm64',
  ]);
  assert.deepEqual(platformWarnings(single(), 'linux/amd64,linux/amd64'), [
    'Duplicate platform result requested "linux/amd64"',
  ]);
  assert.match(
    platformWarnings(single(), 'a/b/c/d')[0]!,
    /^Invalid platform result requested "a\/b\/c\/d": /,
  );
  const unmapped = { ...built('linux/amd64'), metadata: new Map<string, Uint8Array>() };
  assert.throws(
    () => platformWarnings(unmapped, undefined),
    /^BuildError: build result contains multiple refs without platforms mapping/,
  );
});
