import assert from 'node:assert/strict';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { inlineRunner } from '../pool/serve.ts';
import { type ContentSelector, selectPath } from './content-selector.ts';
import { contentHashJobs, TreeHasher } from './contenthash.ts';
import { HashIndex, type TreeChange } from './contenthash-index.ts';
import { lsetxattr } from '../sys/xattr.ts';

// Digests on the right are BuildKit's: they are cache keys that travel between daemons.
const FILE_DATA0 = 'sha256:cd8e75bca50f2d695f220d0cb0997d8ead387e4f926e8669a92d7f104cc9885b';
const DIR_D0 = 'sha256:d47454417d2c554067fbefe5f5719edc49f3cfe969c36b62e34a187a4da0cc9a';
const DIR_D0_BY_FILE = 'sha256:6b612ad5c13159112ae26357ef7bd34df29916941ba40ec2ce38dfb70c6c60c3';

const runner = inlineRunner(contentHashJobs);
const dirs: string[] = [];
after(() => {
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});

function tree(entries: Readonly<Record<string, string | { link: string } | null>>): string {
  const dir = mkdtempSync(join(tmpdir(), 'contenthash-'));
  dirs.push(dir);
  chmodSync(dir, 0o755);
  for (const [path, entry] of Object.entries(entries)) {
    const full = join(dir, path);
    if (entry === null) mkdirSync(full, { mode: 0o755 });
    else if (typeof entry === 'string') writeFileSync(full, entry, { mode: 0o644 });
    else symlinkSync(entry.link, full);
  }
  return dir;
}

const WHOLE = selectPath('/', false);

async function checksum(dir: string, path: string, options: Partial<ContentSelector> = {}): Promise<Digest> {
  const [digest] = await runner.run('contentHash', { dir, selectors: [{ ...WHOLE, path, ...options }] });
  return digest!;
}

test('a file with several links counts as several files, and is read once', async () => {
  const apart = tree({ a: 'data0', b: 'data0', c: 'data1' });
  const linked = tree({ a: 'data0', c: 'data1' });
  linkSync(join(linked, 'a'), join(linked, 'b'));
  assert.equal(await checksum(linked, '/'), await checksum(apart, '/'));
  const hasher = new TreeHasher(linked, new HashIndex());
  assert.equal(hasher.checksum({ ...WHOLE, path: 'a' }), FILE_DATA0);
  writeFileSync(join(linked, 'b'), 'data2');
  assert.equal(hasher.checksum({ ...WHOLE, path: 'b' }), FILE_DATA0);
  assert.notEqual(hasher.checksum({ ...WHOLE, path: 'c' }), FILE_DATA0);
});

test('files, directories and links hash as BuildKit does', async () => {
  const dir = tree({
    foo: 'data0',
    bar: 'data1',
    d0: null,
    'd0/abc': 'data0',
    'd0/def': { link: 'abc' },
    'd0/ghi': { link: 'nosuchfile' },
  });
  const follow = { followLinks: true };
  assert.equal(await checksum(dir, 'foo', follow), FILE_DATA0);
  assert.equal(
    await checksum(dir, 'bar', follow),
    'sha256:c2b5e234f5f38fc5864da7def04782f82501a40d46192e4207d5b3f0c3c4732b',
  );
  assert.equal(await checksum(dir, 'd0/abc', follow), FILE_DATA0);
  assert.equal(await checksum(dir, 'd0/def', follow), FILE_DATA0);
  assert.equal(await checksum(dir, 'd0', follow), DIR_D0);
  assert.equal(
    await checksum(dir, '/', follow),
    'sha256:427c9cf9ae98c0f81fb57a3076b965c7c149b6b0a85625ad4e884236649a42c6',
  );
  await assert.rejects(
    checksum(dir, 'd0/ghi', follow),
    /"\/d0\/nosuchfile": not found|"\/d0\/ghi": not found/,
  );
  await assert.rejects(checksum(dir, 'nosuch', follow), /"\/nosuch": not found/);
});

test('wildcards hash what they match, file by file', async () => {
  const dir = tree({
    bar: 'data1',
    foo: 'data0',
    fox: 'data2',
    x: null,
    'x/d0': null,
    'x/d0/abc': 'data0',
    'x/d0/def': { link: 'abc' },
    'x/d0/ghi': { link: 'nosuchfile' },
    y1: { link: 'foo' },
    y2: { link: 'fox' },
  });
  const wildcard = { wildcard: true };
  const both = { wildcard: true, followLinks: true };
  assert.equal(await checksum(dir, 'f*o', wildcard), digestOf(`\0foo${FILE_DATA0}`));
  assert.equal(
    await checksum(dir, 'f*', wildcard),
    'sha256:0b6731924f0a32a812bf8a729202e55e54ded331f9e4ff2397f681e43694e086',
  );
  assert.equal(await checksum(dir, 'x/d?', wildcard), DIR_D0_BY_FILE);
  assert.equal(await checksum(dir, 'x/d?/def', both), FILE_DATA0);
  assert.equal(
    await checksum(dir, 'y*', both),
    'sha256:982153600b9653a1decb0f961e09e2bc1be335cfcaac9b39dbd1120b65fdf92c',
  );
  assert.equal(await checksum(dir, 'none*', wildcard), digestOf(''));
});

test('include and exclude patterns', async () => {
  const small = tree({ foo: 'data0', bar: 'data1', d0: null, 'd0/abc': 'abc', d1: null, 'd1/def': 'def' });
  const large = tree({
    foo: 'data0',
    bar: 'data1',
    baz: 'data2',
    d0: null,
    'd0/abc': 'abc',
    'd0/xyz': 'xyz',
    d1: null,
    'd1/def': 'def',
    d2: null,
  });
  const include = (dir: string, ...includePatterns: string[]) => checksum(dir, '', { includePatterns });
  const star = await include(small, 'd0/*');
  assert.equal(await include(small, 'd0/a*'), star);
  assert.equal(await include(large, 'foo'), await include(small, 'foo'));
  assert.notEqual(await include(large, 'd0'), await include(small, 'd0'));
  assert.equal(await include(large, 'd1'), await include(small, 'd1'));
  assert.equal(await include(large, '**/abc'), star);
  assert.notEqual(await include(large, 'd0/*'), star);
  assert.equal(await checksum(large, '', { includePatterns: ['d0/*'], excludePatterns: ['d0/xyz'] }), star);
  assert.equal(await include(small, 'd2/foo'), digestOf(''));
  await assert.rejects(
    checksum(small, '', { includePatterns: ['foo'], requiredPaths: ['/nope'] }),
    /"\/nope": not found/,
  );
});

test('links lead nowhere outside the tree', async () => {
  const dir = tree({
    up: { link: '../../../../d' },
    abs: { link: '/d' },
    d: null,
    'd/f': 'data0',
    loop: { link: 'loop' },
  });
  assert.equal(await checksum(dir, 'up/f'), FILE_DATA0);
  assert.equal(await checksum(dir, 'abs/f'), FILE_DATA0);
  await assert.rejects(checksum(dir, 'loop/f'), /too many links/);
});

test('an index keeps digests, and a damaged one is made anew', async () => {
  const root = tree({ a: null, 'a/f': 'data0', b: 'data1' });
  const index = join(root, '../', `${basename(root)}.index`);
  dirs.push(index);
  const selectors = [WHOLE, { ...WHOLE, includePatterns: ['a'] }];
  const ask = async () => await runner.run('contentHash', { dir: root, index, selectors });
  const first = await ask();
  const kept = HashIndex.load(index);
  assert.equal(kept.get(''), first[0]);
  assert.equal(kept.get('/a/f'), FILE_DATA0);
  // Kept digests are used: the tree is not read again.
  writeFileSync(join(root, 'a/f'), 'other');
  assert.deepEqual(await ask(), first);
  writeFileSync(index, readFileSync(index).fill(0, 30, 31));
  const anew = await ask();
  assert.notEqual(anew[0], first[0]);
  assert.notEqual(anew[1], first[1]);
});

test('an index follows a transfer', async () => {
  const root = tree({
    a: null,
    'a/f': 'data0',
    'a/g': 'data1',
    gone: null,
    'gone/x': 'x',
    kept: null,
    'kept/y': 'y',
  });
  const index = join(root, '../', `${basename(root)}.index`);
  dirs.push(index);
  const ask = async () => (await runner.run('contentHash', { dir: root, index, selectors: [WHOLE] }))[0];
  const update = (changes: readonly TreeChange[]) => runner.run('updateContentIndex', { index, changes });
  await update([]);
  const before = await ask();
  const keptDigest = HashIndex.load(index).get('/kept');
  writeFileSync(join(root, 'a/f'), 'data2');
  rmSync(join(root, 'gone'), { recursive: true });
  await update([
    { path: 'a/f', kind: 'write' },
    { path: 'gone', kind: 'delete' },
  ]);
  const loaded = HashIndex.load(index);
  for (const key of ['', '/a', '/a/f', '/gone', '/gone/', '/gone/x'])
    assert.equal(loaded.get(key), undefined, key);
  assert.equal(loaded.get('/kept'), keptDigest);
  assert.ok(loaded.get('/a/g') && loaded.get('/a/'));
  // A transferred root has no header of its own.
  assert.equal(loaded.get('/'), digestOf(''));
  const after = await ask();
  assert.notEqual(after, before);
  rmSync(index);
  await update([]);
  assert.equal(await ask(), after);
  await update([{ path: 'a/f', kind: 'write', digest: FILE_DATA0 as Digest }]);
  assert.equal(HashIndex.load(index).get('/a/f'), FILE_DATA0);
});

test('attributes, owners and modes count, times do not', async () => {
  const root = tree({ f: 'data0' });
  const first = await checksum(root, '/f');
  utimesSync(join(root, 'f'), 1, 1);
  assert.equal(await checksum(root, '/f'), first);
  lsetxattr(join(root, 'f'), 'security.other', Buffer.from('1'));
  assert.equal(await checksum(root, '/f'), first);
  lsetxattr(join(root, 'f'), 'user.a', Buffer.from('1'));
  const withXattr = await checksum(root, '/f');
  assert.notEqual(withXattr, first);
  chmodSync(join(root, 'f'), 0o4644);
  assert.notEqual(await checksum(root, '/f'), withXattr);
});
