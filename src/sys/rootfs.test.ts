import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { openRootfs, type Rootfs } from './rootfs.ts';
import { S_IFCHR, S_IFMT, S_IFREG } from './stat.ts';

const base = mkdtempSync(join(tmpdir(), 'rootfs-'));
after(() => rmSync(base, { recursive: true, force: true }));
let root: Rootfs;
let dir: string;
let count = 0;
beforeEach(() => {
  root?.[Symbol.dispose]();
  dir = join(base, `r${count++}`);
  mkdirSync(dir);
  root = openRootfs(dir);
});
after(() => root[Symbol.dispose]());

function write(path: string, text: string, mode = 0o644): void {
  const fd = root.createFile(path, mode);
  writeSync(fd, text);
  closeSync(fd);
}

test('dot-dot and symlinks, absolute ones too, stay inside the root', () => {
  writeFileSync(join(base, 'outside'), 'secret');
  mkdirSync(join(dir, 'a'));
  symlinkSync('/', join(dir, 'a/abs'));
  symlinkSync('../../../..', join(dir, 'a/up'));
  write('a/abs/one', '1');
  write('a/up/two', '2');
  write('../../three', '3');
  write('a/../../four', '4');
  assert.deepEqual(readdirSync(dir).sort(), ['a', 'four', 'one', 'three', 'two']);
  symlinkSync(join(base, 'outside'), join(dir, 'leak'));
  assert.throws(() => root.openFile('leak'), { code: 'ENOENT' });
  assert.throws(() => root.openFileNoFollow('leak'), { code: 'ELOOP' });
  assert.throws(() => root.open('/proc/../leak', 0), { code: 'ENOENT' });
  assert.equal(root.lstatOrNone('../outside'), undefined);
});

test('a name is never a way out: last part dot-dot, empty, slashes, NUL', () => {
  assert.equal(root.lstat('..').inoLow, root.lstat('/').inoLow);
  assert.equal(root.lstat('').inoLow, root.lstat('.').inoLow);
  assert.throws(() => root.createFile('x\0y', 0o644), { code: 'EINVAL' });
  root.mkdir('/d///', 0o755);
  assert.equal(root.resolve('//d/./'), '/d');
});

test('magic links of proc are refused', () => {
  using proc = openRootfs('/proc');
  assert.throws(() => proc.open('self/root/etc/passwd', 0), { code: 'ELOOP' });
  assert.throws(() => proc.lstat('self/root/etc/passwd'), { code: 'ELOOP' });
});

test('creates with the exact mode, whatever the umask', () => {
  write('f', 'x', 0o4777);
  root.mkdir('d', 0o1777);
  root.mkdirAll('p/q/r', 0o777);
  root.mknod('fifo', 0o010666);
  root.mknod('null', S_IFCHR | 0o666, 1, 3);
  root.mknod('wh', S_IFCHR, 0, 0);
  const mode = (path: string): number => root.lstat(path).mode & 0o7777;
  assert.deepEqual(
    ['f', 'd', 'p', 'p/q/r', 'fifo', 'null', 'wh'].map(mode),
    [0o4777, 0o1777, 0o777, 0o777, 0o666, 0o666, 0],
  );
  const { rdevMajor, rdevMinor } = root.lstat('null');
  assert.deepEqual([rdevMajor, rdevMinor], [1, 3]);
  assert.throws(() => root.createFile('f', 0o644), { code: 'EEXIST', message: 'open f: file exists' });
});

test('mkdirAll follows links to directories, reports what it made, refuses files and dangling links', () => {
  root.mkdir('real', 0o755);
  root.symlink('/real', 'link');
  root.symlink('/nowhere', 'dangling');
  write('file', '');
  const made: string[] = [];
  root.mkdirAll('/link/x/y', 0o755, (path) => made.push(path));
  assert.deepEqual(made, ['/link/x', '/link/x/y']);
  assert.ok(existsSync(join(dir, 'real/x/y')));
  assert.throws(() => root.mkdirAll('dangling/z', 0o755), { code: 'ENOENT' });
  assert.throws(() => root.mkdirAll('file/z', 0o755), { code: 'ENOTDIR' });
  root.mkdirAll('/', 0o755);
});

test('owner, times to the nanosecond and attributes, of links themselves', () => {
  write('f', '');
  root.symlink('f', 'l');
  root.lchown('l', 4294967294, 3000000000);
  root.utimes('l', undefined, { sec: -5, nsec: 987654321 });
  root.utimes('f', { sec: 1, nsec: 2 }, { sec: 5_000_000_000, nsec: 3 });
  const link = root.lstat('l');
  assert.deepEqual(
    [link.uid, link.gid, link.mtimeSec, link.mtimeNsec],
    [4294967294, 3000000000, -5, 987654321],
  );
  const file = root.lstat('f');
  assert.deepEqual([file.uid, file.atimeNsec, file.mtimeSec, file.mtimeNsec], [0, 2, 5_000_000_000, 3]);
  root.setXattr('f', 'user.a', Buffer.from([0, 255, 0]));
  root.setXattr('l', 'trusted.b', Buffer.from('link'));
  assert.deepEqual(root.readXattrs('f'), { 'user.a': Buffer.from([0, 255, 0]) });
  assert.deepEqual(root.listXattr('l'), ['trusted.b']);
  root.removeXattr('l', 'trusted.b');
  root.removeXattr('l', 'trusted.b');
  assert.equal(root.getXattr('l', 'trusted.b'), undefined);
  root.chmod('f', 0o6711);
  assert.equal(root.lstat('f').mode, S_IFREG | 0o6711);
  assert.throws(() => root.chmod('l', 0o600), { code: 'EOPNOTSUPP' });
  assert.equal(root.stat('l').mode & S_IFMT, S_IFREG);
});

test('kept directories do not outlive a removal, a rename or a changed link', () => {
  root.mkdirAll('a/b', 0o755);
  write('a/b/one', '');
  root.rename('a', 'z');
  root.mkdirAll('a/b', 0o755);
  write('a/b/two', '');
  assert.deepEqual(root.readdir('a/b'), ['two']);
  root.mkdir('t1', 0o755);
  root.mkdir('t2', 0o755);
  root.symlink('t1', 'cur');
  write('cur/x', '');
  root.unlink('cur');
  root.symlink('t2', 'cur');
  write('cur/y', '');
  assert.deepEqual([root.readdir('t1'), root.readdir('t2')], [['x'], ['y']]);
  root.removeAll('/a');
  root.mkdirAll('a/b', 0o755);
  write('a/b/three', '');
  assert.deepEqual(root.readdir('a/b'), ['three']);
});

test('removeAll takes links away without following them', () => {
  mkdirSync(join(base, 'keep'), { recursive: true });
  writeFileSync(join(base, 'keep/f'), 'x');
  root.mkdirAll('d/e', 0o755);
  root.symlink(join(base, 'keep'), 'd/e/l');
  root.link('d/e/l', 'd/hard');
  root.removeAll('d');
  root.removeAll('d');
  assert.deepEqual(readdirSync(dir), []);
  assert.equal(readFileSync(join(base, 'keep/f'), 'utf8'), 'x');
});

test('descriptors stay bounded over many directories and end with the root', () => {
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 200; i++) {
    root.mkdirAll(`many/d${i}`, 0o755);
    write(`many/d${i}/f`, '');
  }
  assert.ok(readdirSync('/proc/self/fd').length < before + 70);
  using again = openRootfs(dir);
  for (let i = 0; i < 200; i++) assert.ok(again.lstatOrNone(`many/d${i}/f`));
  assert.ok(statSync(join(dir, 'many/d199/f')).isFile());
  root[Symbol.dispose]();
  again[Symbol.dispose]();
  assert.ok(readdirSync('/proc/self/fd').length < before);
});
