import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { llistxattr } from '../../sys/xattr.ts';
import { type FsStat, GO_DIR, GO_SYMLINK } from './stat.ts';
import { TreeValidator } from './validate.ts';
import { TreeWriter } from './writer.ts';

function entry(path: string, mode = 0o644, more: Partial<FsStat> = {}): FsStat {
  const plain = { uid: 0, gid: 0, size: 0, modTime: 0n, linkname: '', devmajor: 0, devminor: 0 };
  return { path, mode, ...plain, xattrs: undefined, ...more };
}

function newRoot(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'writer-'));
  t.after(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, 'root'));
  mkdirSync(join(dir, 'outside'));
  return dir;
}

test('lists that lead out of the directory are refused', () => {
  const link = entry('l', (GO_SYMLINK | 0o777) >>> 0, { linkname: '/' });
  const dir = entry('d', (GO_DIR | 0o755) >>> 0);
  const lists: [FsStat[], RegExp][] = [
    [[entry('..')], /escape/],
    [[entry('../x')], /escape/],
    [[entry('/x')], /absolute/],
    [[entry('')], /unclean/],
    [[entry('.')], /unclean/],
    [[dir, entry('d/../../x')], /unclean/],
    [[dir, entry('d//x')], /unclean/],
    [[entry('a\0b')], /unclean/],
    [[link, entry('l/x')], /out of order/],
    [[entry('x'), entry('x')], /out of order/],
    [[entry('h', 0o644, { linkname: '/etc/passwd' })], /invalid link/],
    [[entry('h', 0o644, { linkname: '../x' })], /invalid link/],
    [[link, entry('z', 0o644, { linkname: 'l' })], /invalid link/],
  ];
  for (const [list, error] of lists) {
    const validator = new TreeValidator();
    const check = (): void => {
      for (const stat of list) validator.check(stat);
    };
    assert.throws(check, error, list.at(-1)!.path);
  }
});

test('links that are there already are replaced, not followed', (t) => {
  const dir = newRoot(t);
  const root = join(dir, 'root');
  symlinkSync('../outside', join(root, 'd'));
  symlinkSync('../outside/made', join(root, 'f'));
  using writer = new TreeWriter(root);
  writer.create(entry('d', (GO_DIR | 0o755) >>> 0));
  writer.createFile(1, entry('d/x'));
  writer.createFile(2, entry('f'));
  writer.write(1, Buffer.from('1'));
  writer.finish(1);
  writer.finish(2);
  assert.deepEqual(readdirSync(join(dir, 'outside')), []);
  assert.ok(lstatSync(join(root, 'd')).isDirectory());
  assert.equal(readFileSync(join(root, 'd/x'), 'utf8'), '1');
  assert.ok(lstatSync(join(root, 'f')).isFile());
});

test('marks of overlayfs are not taken from a client', (t) => {
  const root = join(newRoot(t), 'root');
  const xattrs = { 'trusted.overlay.opaque': Buffer.from('y'), 'user.a': Buffer.from('1') };
  using writer = new TreeWriter(root);
  writer.create(entry('d', (GO_DIR | 0o755) >>> 0, { xattrs }));
  writer.createFile(1, entry('f', 0o644, { xattrs }));
  writer.finish(1);
  for (const name of ['d', 'f']) assert.deepEqual(llistxattr(join(root, name)), ['user.a']);
});
