import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compatibilityVersion, unsupportedFeature } from './compatibility.ts';

test('a request may ask for any version there has been; none is the newest', () => {
  assert.deepEqual([0, 10, 20, 30].map(compatibilityVersion), [30, 10, 20, 30]);
  assert.throws(() => compatibilityVersion(11), {
    message: 'unsupported compatibility-version 11 (supported: [10 20 30])',
  });
  assert.throws(() => compatibilityVersion(-1), /^BuildError: unsupported compatibility-version -1 \(supp/);
  assert.throws(() => compatibilityVersion(40), {
    message: 'unsupported compatibility-version 40: upgrade buildkit (max supported: 30)',
  });
});

test('what a version cannot have is an error with a detail', () => {
  const error = unsupportedFeature(10, 'oci exporter compression=zstd');
  assert.equal(error.message, 'unsupported compatibility-version 10 feature oci exporter compression=zstd');
  assert.deepEqual(error.details, [
    {
      type: 'errdefs.CompatibilityFeature',
      value: { version: 10, feature: 'oci exporter compression=zstd' },
    },
  ]);
});
