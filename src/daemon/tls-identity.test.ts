import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readTlsIdentity } from './tls-identity.ts';

test('files that are missing, or no keys and certificates, are named by what they are for', () => {
  const dir = mkdtempSync(join(tmpdir(), 'tls-'));
  try {
    const junk = join(dir, 'junk');
    writeFileSync(junk, 'no pem');
    assert.throws(() => readTlsIdentity({ cert: '/nowhere', key: junk }), {
      message: 'could not load server key pair: open /nowhere: no such file or directory',
    });
    assert.throws(
      () => readTlsIdentity({ cert: junk, key: junk }),
      /^BuildError: could not load server key pair: /,
    );
  } finally {
    rmSync(dir, { recursive: true });
  }
});
