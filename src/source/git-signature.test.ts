import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type GitBench, gitBench } from '../testing/git-bench.ts';
import { verifyGitSignature } from './git-signature.ts';

/** Makes a key of ssh and lets the repository sign with it. @returns the public key */
function signWith(b: GitBench, name: string): string {
  const path = join(b.root, name);
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path]);
  b.repo.git('config', 'gpg.format', 'ssh');
  b.repo.git('config', 'user.signingkey', path);
  return readFileSync(`${path}.pub`, 'utf8');
}

for (const sha256 of [false, true])
  test(`signed commits and tags (${sha256 ? 'SHA-256' : 'SHA-1'})`, async () => {
    await using b = await gitBench({ sha256 });
    const alice = signWith(b, 'alice');
    b.repo.git('config', 'commit.gpgSign', 'true');
    b.repo.commit({ a: '1' });
    b.repo.git('tag', '-a', '-m', 'plain', 'unsigned');
    const bob = signWith(b, 'bob');
    b.repo.git('tag', '-s', '-m', 'signed', 'signed');
    b.repo.git('config', 'commit.gpgSign', 'false');
    const plain = b.repo.commit({ a: '2' });
    const ask = (ref: string, key: string, more: Readonly<Record<string, string>> = {}) =>
      b.source(ref, { 'git.sig.pubkey': key, ...more }).cacheKey(0, b.context);
    await ask('#unsigned', alice);
    await ask('#signed', bob);
    await assert.rejects(ask('#unsigned', bob), /public key does not match/);
    if (sha256) return;
    await ask('#signed', alice); // of the commit: the tag is somebody else's
    await ask('#signed', alice, { 'git.sig.ignoresignedtag': 'true' });
    await ask(`#${b.repo.git('rev-parse', 'main~1')}`, alice);
    const tag = { 'git.sig.requiresignedtag': 'true' };
    await ask('#signed', bob, tag);
    await assert.rejects(
      ask('#signed', alice, tag),
      /failed to verify ssh signature: public key does not match/,
    );
    await assert.rejects(ask('#unsigned', alice, tag), /git object is not signed/);
    await assert.rejects(ask('#main', alice, tag), /signed tag required but no signed tag found/);
    await assert.rejects(ask('#main', alice), /git object is not signed/);
    await assert.rejects(ask(`#${plain}`, ''), /git object is not signed/);
    // Nothing is checked out after a refusal.
    const source = b.source('#main', { 'git.sig.pubkey': alice });
    for (let i = 0; i < 2; i++) await assert.rejects(source.snapshot(b.context), /not signed/);
  });

test('an object under another name is refused, whoever signed it', () => {
  const commitObject = Buffer.from('tree x\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n');
  const policy = { publicKey: '', rejectExpired: false, requireSignedTag: false, ignoreSignedTag: false };
  assert.throws(
    () => verifyGitSignature({ checksum: '0'.repeat(40), commitChecksum: '', commitObject }, policy),
    /commit object checksum verification failed: checksum mismatch: expected 0{40}, got /,
  );
});
