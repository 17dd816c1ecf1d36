import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { runGit } from '../testing/git.ts';
import { filesOf, type GitBench, gitBench, inTree } from '../testing/git-bench.ts';
import { gitSourceSpec } from './git-spec.ts';

/** A bundle of `ref`, kept as a blob. @returns its locator */
async function exportBundle(
  b: GitBench,
  ref: string,
  attrs: Readonly<Record<string, string>>,
): Promise<string> {
  await using tree = await b.source(ref, { ...attrs, 'git.checkoutbundle': 'true' }).snapshot(b.context);
  const data = await inTree(tree, (dir) => {
    assert.deepEqual(readdirSync(dir), ['bundle']);
    return readFileSync(join(dir, 'bundle'));
  });
  const digest = digestOf(data);
  b.blobs.set(digest, data);
  return `oci-layout+blob://any/name@${digest}`;
}

for (const sha256 of [false, true])
  test(`a bundle holds a commit with its history, and stands for the server (${sha256 ? 'SHA-256' : 'SHA-1'})`, async () => {
    await using b = await gitBench({ sha256 });
    b.repo.commit({ a: '1' });
    const sha = b.repo.commit({ a: '2' });
    await filesOf(b, b.source()); // the shared repository has the commit without its history
    const checksum = { 'git.checksum': sha };
    const making = b.source('#main', { ...checksum, 'git.checkoutbundle': 'true' });
    assert.equal((await making.cacheKey(0, b.context)).key, `${sha}(bundle)`);
    const locator = await exportBundle(b, '#main', checksum);
    await using other = await gitBench({ sha256 });
    for (const [digest, data] of b.blobs) other.blobs.set(digest, data);
    const attrs = { ...checksum, 'git.bundle': locator };
    for (const ref of ['', '#main', '#refs/heads/main', `#${sha}`]) {
      const source = other.source(ref, attrs);
      assert.equal((await source.cacheKey(0, other.context)).key, sha, ref);
      assert.deepEqual(await filesOf(other, source), { a: '2' }, ref);
    }
    const kept = other.source('#main', { ...attrs, 'git.keepgitdir': 'true' });
    await using tree = await kept.snapshot(other.context);
    await inTree(tree, (dir) =>
      assert.equal(runGit(dir, ['rev-parse', 'refs/heads/main', 'HEAD']), `${sha}\n${sha}`),
    );
    assert.equal(other.server.seen.length, 0);
  });

test('bundles that do not hold what they should', async () => {
  await using b = await gitBench();
  const one = b.repo.commit({ a: '1' });
  const locator = await exportBundle(b, '#main', {});
  const two = b.repo.commit({ a: '2' });
  await using other = await gitBench();
  const from = (text: string, checksum: string) =>
    filesOf(other, other.source('', { 'git.bundle': text, 'git.checksum': checksum }));
  await assert.rejects(from(locator, one), /expected checksum to match sha256:.*, got sha256:e3b0/);
  for (const [digest, data] of b.blobs) other.blobs.set(digest, data);
  await assert.rejects(from(locator, two), new RegExp(`commit ${two} not found in bundle any/name@`));
  const junk = digestOf('junk');
  other.blobs.set(junk, Buffer.from('junk'));
  await assert.rejects(from(`docker-image+blob://h/r@${junk}`, one), /failed to inspect git bundle/);
  assert.deepEqual(
    readdirSync(other.root).filter((name) => name.startsWith('git-bundle-')),
    [],
  );
});

test('attributes of bundles that do not go together', () => {
  const digest = digestOf('x');
  const good = `docker-image+blob://example.com/r@${digest}`;
  const sha = '0'.repeat(40);
  for (const [attrs, error] of [
    [{ 'git.bundle': good }, /^git\.bundle requires git\.checksum to be set$/],
    [{ 'git.bundle': 'x' }, /^failed to parse git\.bundle locator "x": missing scheme$/],
    [
      { 'git.bundle': 'https://h/x' },
      /^git\.bundle locator scheme "https" is not supported; expected "docker-image\+blob" or "oci-layout\+blob"$/,
    ],
    [{ 'git.bundle': 'oci-layout+blob://h/x:tag' }, /invalid digest/],
    [
      { 'git.bundle': `oci-layout+blob://h/x@sha512:${'0'.repeat(128)}` },
      /"sha512" not supported, expected "sha256"/,
    ],
    [{ 'git.bundle': good, 'git.checksum': 'ab' }, /requires a full commit/],
    [{ 'git.checkoutbundle': 'true', 'git.keepgitdir': 'true' }, /incompatible with git\.keepgitdir/],
  ] as const)
    assert.throws(() => gitSourceSpec('h/r', attrs), { message: error });
  assert.throws(
    () => gitSourceSpec('h/r#:sub', { 'git.checkoutbundle': 'true' }),
    /incompatible with git\.subdir/,
  );
  const { bundle } = gitSourceSpec('h/r', {
    'git.bundle': `oci-layout+blob://a/b@${digest}`,
    'git.checksum': sha,
  });
  assert.deepEqual(bundle, { reference: `a/b@${digest}`, digest, place: { sessionId: '', storeId: 'a/b' } });
});
