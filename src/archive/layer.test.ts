import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { inlineRunner } from '../pool/serve.ts';
import { lstat } from '../sys/stat.ts';
import { lgetxattr, llistxattr, lsetxattr } from '../sys/xattr.ts';
import { type TarEntry, tarOfEntries } from '../testing/tar.ts';
import type { ApplyLayerResult } from './apply.ts';
import type { DiffLayerInput } from './diff.ts';
import { archiveJobs } from './jobs.ts';
import { TarType } from './tar-header.ts';
import { readTarEntries } from './tar-reader.ts';

const base = mkdtempSync(join(tmpdir(), 'layer-'));
after(() => rmSync(base, { recursive: true, force: true }));
const runner = inlineRunner(archiveJobs);

let count = 0;
function fresh(): string {
  const dir = join(base, String(count++));
  mkdirSync(dir);
  return dir;
}

/** Runs shell lines in a new directory. */
function shell(script: string): string {
  const dir = fresh();
  execFileSync('bash', ['-ec', script], { cwd: dir });
  return dir;
}

const tar = (...entries: TarEntry[]): Buffer => tarOfEntries(entries);

function apply(
  archive: Buffer,
  target: string,
  whiteouts: 'overlay' | 'delete' = 'delete',
  parents: string[] = [],
): Promise<ApplyLayerResult> {
  const blob = join(fresh(), 'blob');
  writeFileSync(blob, archive);
  return runner.run('applyLayer', { blob, target, whiteouts, parents });
}

async function diff(input: Omit<DiffLayerInput, 'blob' | 'compression'>): Promise<string[]> {
  const blob = join(fresh(), 'blob');
  const result = await runner.run('diffLayer', { ...input, compression: 'uncompressed', blob });
  const bytes = readFileSync(blob);
  assert.equal(result.digest, digestOf(bytes));
  assert.equal(result.diffId, result.digest);
  assert.equal(result.size, bytes.length);
  return readTarEntries(bytes, 1e6).map(({ header }) =>
    header.type === TarType.link ? `${header.name} => ${header.linkname}` : header.name,
  );
}

test('files, links, devices, attributes and times are extracted', async () => {
  const target = fresh();
  const xattrs = new Map([['user.a', Buffer.from('b')]]);
  const archive = tar(
    { name: 'd/', type: TarType.dir, mode: 0o1750, uid: 5, gid: 6, mtime: { sec: 7, nsec: 0 } },
    { name: 'd/f', data: 'text', mode: 0o4755, uid: 70_000, gid: 3_000_000_000, xattrs },
    { name: 'd/l', type: TarType.symlink, linkname: '/anywhere', mode: 0o777, uid: 9 },
    { name: 'd/h', type: TarType.link, linkname: 'd/f', mode: 0o4755, uid: 70_000, gid: 3_000_000_000 },
    { name: 'dev', type: TarType.char, devMajor: 1, devMinor: 3, mode: 0o666 },
    { name: 'fifo', type: TarType.fifo, mode: 0o600 },
    { name: './x/../y/z', data: '1' },
  );
  const result = await apply(archive, target);
  assert.equal(result.diffId, digestOf(archive));
  assert.equal(result.size, 5);
  const file = lstat(join(target, 'd/f'));
  assert.equal(file.mode, 0o104755);
  assert.deepEqual([file.uid, file.gid, file.mtimeSec, file.nlink], [70_000, 3_000_000_000, 1000, 2]);
  assert.equal(lgetxattr(join(target, 'd/f'), 'user.a')?.toString(), 'b');
  const dir = lstat(join(target, 'd'));
  assert.deepEqual([dir.mode, dir.uid, dir.gid, dir.mtimeSec], [0o041750, 5, 6, 7]);
  assert.equal(readlinkSync(join(target, 'd/l')), '/anywhere');
  assert.equal(lstat(join(target, 'd/l')).uid, 9);
  assert.equal(lstat(join(target, 'dev')).rdevMinor, 3);
  assert.ok(lstatSync(join(target, 'fifo')).isFIFO());
  assert.equal(readFileSync(join(target, 'y/z'), 'utf8'), '1');
});

test('attributes that overlayfs would take for its own marks are left out', async () => {
  const target = fresh();
  const xattrs = new Map([
    ['trusted.overlay.redirect', Buffer.from('/other')],
    ['trusted.overlay.opaque', Buffer.from('y')],
    ['trusted.any', Buffer.from('1')],
    ['user.a', Buffer.from('b')],
  ]);
  const entries = [
    { name: 'd/', type: TarType.dir, mode: 0o755, xattrs },
    { name: 'f', data: 'x', xattrs },
  ];
  for (const mode of ['overlay', 'delete'] as const) {
    await apply(tar(...entries), target, mode);
    for (const name of ['d', 'f']) assert.deepEqual(llistxattr(join(target, name)), ['user.a']);
  }
});

test('names and links cannot leave the target', async () => {
  const outside = fresh();
  writeFileSync(join(outside, 'secret'), 'keep');
  const target = fresh();
  const archive = tar(
    { name: '../../up', data: 'u' },
    { name: '/abs/file', data: 'a' },
    { name: '..', type: TarType.dir },
    { name: 'out', type: TarType.symlink, linkname: outside },
    { name: 'rel', type: TarType.symlink, linkname: '../../../../../../tmp' },
    { name: 'hop/', type: TarType.dir },
    { name: 'hop/up', type: TarType.symlink, linkname: '../..' },
  );
  await apply(archive, target);
  assert.equal(readFileSync(join(target, 'up'), 'utf8'), 'u');
  assert.equal(readFileSync(join(target, 'abs/file'), 'utf8'), 'a');
  for (const name of ['out/secret', 'rel/planted', 'hop/up/planted'])
    await apply(tar({ name, data: 'bad' }), target).catch(() => {});
  await apply(tar({ name: 'out/.wh.secret' }), target).catch(() => {});
  await apply(tar({ name: 'l', type: TarType.link, linkname: `${outside}/secret` }), target).catch(() => {});
  await apply(tar({ name: 'l', type: TarType.link, linkname: 'out/secret' }), target).catch(() => {});
  await apply(tar({ name: 'out/.wh..wh..opq' }), target).catch(() => {});
  assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'keep');
  assert.ok(!existsSync('/tmp/planted'));
  assert.ok(!existsSync(join(base, 'planted')));
  // A link to what the tree itself holds is no way out either: a new file replaces it.
  await apply(tar({ name: 'out', data: 'file' }), target);
  assert.ok(lstatSync(join(target, 'out')).isFile());
  assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'keep');
});

test('bad whiteout names and unknown types are refused', async () => {
  for (const name of ['.wh.', 'a/.wh..', '.wh...'])
    await assert.rejects(apply(tar({ name }), fresh()), /invalid whiteout name/);
  await assert.rejects(apply(tar({ name: 'x', type: 'Z' }), fresh()), /unhandled tar header type 90/);
  await assert.rejects(apply(tar({ name: 'x', data: 'abc' }).subarray(0, 514), fresh()), /unexpected EOF/);
});

test('whiteouts remove in a plain tree', async () => {
  const target = shell('mkdir -p a/sub b; touch a/1 a/sub/2 b/3 c');
  await apply(
    tar(
      { name: 'a/new', data: 'n' },
      { name: 'a/.wh..wh..opq' },
      { name: 'b/.wh.3' },
      { name: '.wh.c' },
      { name: '.wh.missing' },
    ),
    target,
  );
  assert.deepEqual(
    execFileSync('find', ['.', '-mindepth', '1'], { cwd: target }).toString().split('\n').sort(),
    ['', './a', './a/new', './b'],
  );
});

test('whiteouts become marks in an overlay directory', async () => {
  const target = fresh();
  const lower = shell('mkdir -p d o real/dir below; touch d/gone x real/hidden; ln -s real link');
  const lowest = shell('mkdir -p below; touch below/deep');
  await apply(
    tar(
      { name: 'd/.wh.gone', uid: 3 },
      { name: 'd/.wh.never' },
      { name: 'below/.wh.deep' },
      { name: 'new/.wh.never' },
      { name: 'link', type: TarType.symlink, linkname: 'real' },
      { name: 'link/.wh.hidden' },
      { name: 'o/.wh..wh..opq' },
      { name: '.wh.x' },
      { name: 'x', data: '1' },
    ),
    target,
    'overlay',
    [lower, lowest],
  );
  for (const path of ['below/deep', 'real/hidden'])
    assert.ok(lstat(join(target, path)).rdevMajor === 0, path);
  // A mark that hides nothing would be listed in the directory.
  for (const path of ['d/never', 'new/never']) assert.equal(existsSync(join(target, path)), false, path);
  const gone = lstat(join(target, 'd/gone'));
  assert.deepEqual([gone.mode & 0o170000, gone.rdevMajor, gone.rdevMinor, gone.uid], [0o020000, 0, 0, 3]);
  assert.equal(lgetxattr(join(target, 'o'), 'trusted.overlay.opaque')?.toString(), 'y');
  assert.ok(lstatSync(join(target, 'x')).isFile());
});

test('a directory the layer does not mention looks like the one below', async () => {
  const lower = shell('mkdir -p p/q; chmod 1711 p; chown 7:8 p; chmod 700 p/q');
  const target = fresh();
  await apply(tar({ name: 'p/q/r/file', data: '' }), target, 'overlay', [lower]);
  const parent = lstat(join(target, 'p'));
  assert.deepEqual([parent.mode, parent.uid, parent.gid], [0o041711, 7, 8]);
  assert.equal(lstat(join(target, 'p/q')).mode, 0o040700);
  assert.equal(lstat(join(target, 'p/q/r')).mode, 0o040755);
});

test('difference of two plain trees', async () => {
  const lower = shell('mkdir -p same gone/x was-dir; echo 1 > same/f; echo a > mod; touch was-dir/y k');
  const upper = shell(
    `cp -a ${lower}/. .; rm -r gone was-dir; touch was-dir; echo bb > mod; mkdir add; echo z > add/z; ln add/z add/y`,
  );
  assert.deepEqual(await diff({ upper, lowers: [lower], overlay: false }), [
    'add/',
    'add/y',
    'add/z => add/y',
    '.wh.gone',
    'mod',
    'was-dir',
  ]);
  assert.deepEqual(await diff({ upper: lower, lowers: [lower], overlay: false }), []);
  assert.equal((await diff({ upper: lower, lowers: [], overlay: false })).length, 8);
});

test('an unmodified name of a new link is added as a link', async () => {
  const lower = shell('echo 1 > a; touch -d @1.5 a');
  const upper = shell(`cp -a ${lower}/. .; ln a b`);
  assert.deepEqual(await diff({ upper, lowers: [lower], overlay: false }), ['b', 'a => b']);
});

test('difference of an overlay directory', async () => {
  const bottom = shell(
    'mkdir -p etc opt/old keep; echo 1 > etc/a; echo 2 > opt/old/b; echo 3 > opt/c; touch z',
  );
  const middle = shell('mkdir etc; echo m > etc/m; mknod z c 0 0');
  const upper = shell(
    `mkdir -p etc opt new/deep; cp --attributes-only --preserve=all ${bottom}/etc . -r; rm -f etc/*
     mknod etc/a c 0 0; mknod etc/never c 0 0; mknod z c 0 0; echo n > new/deep/n; echo 3 > opt/c`,
  );
  lsetxattr(join(upper, 'opt'), 'trusted.overlay.opaque', Buffer.from('y'));
  execFileSync('touch', ['-d', '@5', join(bottom, 'opt/c'), join(upper, 'opt/c')]);
  execFileSync('touch', ['-d', '@9', join(upper, 'opt')]);
  // opt/c is the same as below, so that it is not written again; z was gone before.
  assert.deepEqual(await diff({ upper, lowers: [middle, bottom], overlay: true }), [
    'etc/',
    'etc/.wh.a',
    'new/',
    'new/deep/',
    'new/deep/n',
    'opt/',
    'opt/.wh.old',
  ]);
});

test('a layer that was packed and applied is the same tree', async () => {
  const source = shell(
    `mkdir -p d/e; echo x > d/f; ln d/f d/g; ln -s f d/l; chmod 2755 d/e; mkfifo p; mknod n b 9 3; touch 'sp ace' 'é'
     touch -d @1600000000 d/f`,
  );
  for (const compression of ['gzip', 'zstd', 'uncompressed'] as const) {
    const blob = join(fresh(), 'blob');
    const made = await runner.run('diffLayer', {
      upper: source,
      lowers: [],
      overlay: false,
      compression,
      blob,
    });
    assert.equal(made.digest, digestOf(readFileSync(blob)));
    const target = fresh();
    const applied = await runner.run('applyLayer', { blob, target, whiteouts: 'delete' });
    assert.equal(applied.diffId, made.diffId);
    assert.equal(applied.archiveSize, made.archiveSize);
    assert.deepEqual(
      await diff({ upper: target, lowers: [], overlay: false }),
      await diff({ upper: source, lowers: [], overlay: false }),
    );
    const again = await runner.run('diffLayer', {
      upper: target,
      lowers: [],
      overlay: false,
      compression: 'uncompressed',
      blob: join(fresh(), 'again'),
    });
    assert.equal(again.diffId, made.diffId);
  }
});

test('a failed pack leaves no file', async () => {
  const blob = join(fresh(), 'blob');
  const controller = new AbortController();
  controller.abort();
  const input = { upper: join(base, 'none'), lowers: [], overlay: false, blob } as const;
  await assert.rejects(runner.run('diffLayer', { ...input, compression: 'gzip' }));
  assert.ok(!existsSync(blob));
  await assert.rejects(runner.run('diffLayer', { ...input, compression: 'gzip', level: 12 }), /level 12/);
});

test('a tree is packed with all attributes, and converted', async () => {
  const root = shell('mkdir a; echo 1 > a/b; ln a/b a/c; touch -d @100.6 a/b');
  lsetxattr(join(root, 'a/b'), 'user.k', Buffer.from('v'));
  const blob = join(fresh(), 'tar');
  const packed = await runner.run('packTree', { root, owner: { uid: 1, gid: 2 }, compression: 'gzip', blob });
  const plain = join(fresh(), 'plain');
  const converted = await runner.run('convertBlob', {
    source: blob,
    compression: 'uncompressed',
    blob: plain,
  });
  assert.equal(converted.digest, packed.diffId);
  const [dir, file, link] = readTarEntries(readFileSync(plain), 100).map((e) => e.header);
  assert.deepEqual([dir?.name, file?.name, link?.name, link?.linkname], ['a/', 'a/b', 'a/c', 'a/b']);
  assert.deepEqual([file?.uid, file?.gid, file?.mtime.sec], [1, 2, 101]);
  assert.equal(Buffer.from(file!.xattrs!.get('user.k')!).toString(), 'v');
});
