import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { FileAction } from '../llb/ops.ts';
import { inlineRunner } from '../pool/serve.ts';
import { mknod } from '../sys/file.ts';
import { fileActionJobs } from './filecopy.ts';
import { parseMode } from './filecopy-mode.ts';

let dir = '';
let source = '';
let target = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'filecopy-'));
  source = join(dir, 'source');
  target = join(dir, 'target');
  mkdirSync(source);
  mkdirSync(target);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const runner = inlineRunner(fileActionJobs);
type Copy = Extract<NonNullable<FileAction['action']>, { $case: 'copy' }>['value'];

async function act(action: NonNullable<FileAction['action']>): Promise<void> {
  const trees = { target, source, userRoot: target, groupRoot: target };
  await runner.run('runFileAction', { action: FileAction.fromPartial({ action }), trees });
}
async function copy(options: Partial<Copy>): Promise<void> {
  const value = { mode: -1, timestamp: -1n, createDestPath: true, ...options } as Copy;
  await act({ $case: 'copy', value });
}
const file = (path: string, text = path): void => {
  mkdirSync(join(source, path, '..'), { recursive: true });
  writeFileSync(join(source, path), text);
};
const read = (path: string): string => readFileSync(join(target, path), 'utf8');

test('a file goes into an existing directory or takes the name given', async () => {
  file('a');
  mkdirSync(join(target, 'dir'));
  await copy({ src: '/a', dest: '/dir' });
  await copy({ src: '/a', dest: '/new/deep/b' });
  await copy({ src: '/a', dest: '/slash/' });
  assert.equal(read('dir/a'), 'a');
  assert.equal(read('new/deep/b'), 'a');
  assert.equal(read('slash/a'), 'a');
});

test('from nothing: a copy of everything is nothing, of a file an error', async () => {
  const copyFromNothing = (options: Partial<Copy>) => {
    const value = { mode: -1, timestamp: -1n, createDestPath: true, dest: '/', ...options };
    const action = FileAction.fromPartial({ action: { $case: 'copy', value: value as Copy } });
    const trees = { target, source: undefined, userRoot: undefined, groupRoot: undefined };
    return runner.run('runFileAction', { action, trees });
  };
  await copyFromNothing({ src: '/' });
  await copyFromNothing({ src: '/', dirCopyContents: true, dest: '/sub' });
  assert.deepEqual(readdirSync(target), ['sub']);
  assert.equal(lstatSync(target).mode & 0o7777, 0o755);
  await assert.rejects(copyFromNothing({ src: '/foo' }), /\/foo: no such file or directory/);
});

test('directory contents are merged; links, modes, owners and times come along', async () => {
  file('d/x');
  linkSync(join(source, 'd/x'), join(source, 'd/y'));
  symlinkSync('x', join(source, 'd/l'));
  chmodSync(join(source, 'd/x'), 0o4755);
  utimesSync(join(source, 'd/x'), 1000.5, 2000.25);
  await copy({ src: '/d', dest: '/out', dirCopyContents: true });
  const stat = lstatSync(join(target, 'out/x'));
  assert.equal(stat.mode & 0o7777, 0o4755);
  assert.equal(stat.mtimeMs, 2000250);
  assert.equal(stat.nlink, 2);
  assert.equal(readlinkSync(join(target, 'out/l')), 'x');
});

test('owner, mode and timestamp of the copy win', async () => {
  file('f');
  mkdirSync(join(target, 'etc'));
  writeFileSync(join(target, 'etc/passwd'), 'root:x:0:0::/:\napp:x:41:42::/:\n');
  writeFileSync(join(target, 'etc/group'), 'web:x:77:\n');
  const byName = (name: string) => ({ user: { $case: 'byName' as const, value: { name, input: 0n } } });
  await copy({
    src: '/f',
    dest: '/new/f',
    mode: 0o640,
    timestamp: 5_000_000_000n,
    owner: { user: byName('app'), group: byName('web') },
  });
  const stat = lstatSync(join(target, 'new/f'));
  assert.deepEqual([stat.uid, stat.gid, stat.mode & 0o777, stat.mtimeMs], [41, 77, 0o640, 5000]);
  assert.equal(lstatSync(join(target, 'new')).uid, 41);
});

test('wildcards, includes and excludes', async () => {
  for (const name of ['src/a.go', 'src/b.txt', 'src/sub/c.go', 'src/sub/d.txt']) file(name);
  await copy({ src: '/src/*.go', dest: '/w/', allowWildcard: true });
  assert.ok(existsSync(join(target, 'w/a.go')) && !existsSync(join(target, 'w/b.txt')));
  await copy({ src: '/src', dest: '/i', dirCopyContents: true, includePatterns: ['**/*.go'] });
  assert.ok(existsSync(join(target, 'i/sub/c.go')) && !existsSync(join(target, 'i/b.txt')));
  await copy({ src: '/src', dest: '/e', dirCopyContents: true, excludePatterns: ['sub', '!sub/c.go'] });
  assert.ok(existsSync(join(target, 'e/sub/c.go')) && !existsSync(join(target, 'e/sub/d.txt')));
  await assert.rejects(copy({ src: '/none*', dest: '/', allowWildcard: true }), /\/none\* not found/);
  await copy({ src: '/none*', dest: '/', allowWildcard: true, allowEmptyWildcard: true });
});

test('symlinks in the destination are followed inside the root only', async () => {
  file('f');
  symlinkSync('/outside', join(target, 'abs'));
  symlinkSync('../../../outside2', join(target, 'rel'));
  await copy({ src: '/f', dest: '/abs/' });
  await copy({ src: '/f', dest: '/rel/' });
  assert.equal(read('outside/f'), 'f');
  assert.equal(read('outside2/f'), 'f');
  assert.ok(!existsSync('/outside') && !existsSync('/outside2'));
});

test('a symlink as source is copied as such, or followed when asked', async () => {
  file('real', 'text');
  symlinkSync('/real', join(source, 'link'));
  await copy({ src: '/link', dest: '/as-link' });
  await copy({ src: '/link', dest: '/as-file', followSymlink: true });
  assert.equal(readlinkSync(join(target, 'as-link')), '/real');
  assert.equal(read('as-file'), 'text');
});

test('a file does not replace a directory unless told to', async () => {
  file('d/name');
  mkdirSync(join(target, 'd/name'), { recursive: true });
  const request = { src: '/d', dest: '/d', dirCopyContents: true };
  await assert.rejects(copy(request), /cannot replace to directory \/d\/name with file/);
  await copy({ ...request, alwaysReplaceExistingDestPaths: true });
  assert.equal(read('d/name'), 'd/name');
});

test('mkdir, mkfile, symlink and rm', async () => {
  await act({
    $case: 'mkdir',
    value: { path: '/p/q', mode: 0o750, makeParents: true, owner: undefined, timestamp: 1_000_000_000n },
  });
  assert.equal(lstatSync(join(target, 'p/q')).mode & 0o777, 0o750);
  assert.equal(lstatSync(join(target, 'p')).mtimeMs, 1000);
  await assert.rejects(
    act({
      $case: 'mkdir',
      value: { path: '/no/dir', mode: 0o755, makeParents: false, owner: undefined, timestamp: -1n },
    }),
    /mkdir \/no\/dir: no such file or directory/,
  );
  await act({
    $case: 'mkfile',
    value: { path: '/p/f', mode: 0o600, data: Buffer.from('hi'), owner: undefined, timestamp: -1n },
  });
  await act({ $case: 'symlink', value: { oldpath: 'f', newpath: '/p/l', owner: undefined, timestamp: -1n } });
  assert.equal(read('p/l'), 'hi');
  await act({ $case: 'rm', value: { path: '/p/*', allowNotFound: false, allowWildcard: true } });
  assert.deepEqual([existsSync(join(target, 'p/f')), existsSync(join(target, 'p'))], [false, true]);
  await assert.rejects(
    act({ $case: 'rm', value: { path: '/gone', allowNotFound: false, allowWildcard: false } }),
    /no such file/,
  );
  await act({ $case: 'rm', value: { path: '/gone', allowNotFound: true, allowWildcard: false } });
});

test('mkfile does not write into a device of a foreign image', async () => {
  mknod(join(target, 'dev'), 0o020666, 1, 3);
  symlinkSync('dev', join(target, 'link'));
  for (const path of ['/dev', '/link']) {
    const value = { path, mode: 0o600, data: Buffer.from('x'), owner: undefined, timestamp: -1n };
    await assert.rejects(act({ $case: 'mkfile', value }), /open \/dev: not a regular file/);
  }
});

test('symbolic modes', () => {
  const cases: [string, number, boolean, number][] = [
    ['u=rwX,go=rX', 0o600, false, 0o644],
    ['u=rwX,go=rX', 0o700, true, 0o755],
    ['a+x', 0o644, false, 0o755],
    ['go-w', 0o666, false, 0o644],
    ['+t', 0o777, true, 0o1777],
    ['u+s', 0o755, false, 0o4755],
    ['g=u', 0o740, false, 0o770],
    ['1750', 0, true, 0o1750],
  ];
  for (const [text, bits, isDir, want] of cases) assert.equal(parseMode(text)(bits, isDir), want, text);
  assert.throws(() => parseMode('bogus'), /invalid mode/);
});

test('an archive is unpacked when asked, with the owner given; others are copied', async () => {
  file('in/f', 'text');
  for (const [name, flag] of [
    ['a.tar', ''],
    ['a.tgz', 'z'],
    ['a.tar.xz', 'J'],
    ['a.tar.bz2', 'j'],
  ])
    execFileSync('tar', [`-c${flag}f`, join(source, name!), '-C', join(source, 'in'), 'f']);
  const unpack = { attemptUnpackDockerCompatibility: true, owner: OWNER };
  for (const name of ['a.tar', 'a.tgz', 'a.tar.xz', 'a.tar.bz2']) {
    await copy({ src: `/${name}`, dest: `/out/${name}`, ...unpack });
    assert.equal(read(`out/${name}/f`), 'text');
    assert.equal(lstatSync(join(target, 'out', name, 'f')).uid, 12);
  }
  await copy({ src: '/in/f', dest: '/plain', ...unpack });
  assert.equal(read('plain'), 'text');
  await copy({ src: '/a.tar', dest: '/kept.tar' });
  assert.ok(lstatSync(join(target, 'kept.tar')).isFile());
});

const OWNER = {
  user: { user: { $case: 'byID' as const, value: 12 } },
  group: { user: { $case: 'byID' as const, value: 13 } },
};

test('an unpacked archive cannot leave its directory', async () => {
  file('in/x');
  symlinkSync(join(dir, 'outside'), join(source, 'in/l'));
  mkdirSync(join(dir, 'outside'));
  execFileSync('tar', ['-cf', join(source, 'a.tar'), '-C', join(source, 'in'), 'l']);
  rmSync(join(source, 'in/l'));
  file('in/l/planted');
  execFileSync('tar', ['-rf', join(source, 'a.tar'), '-C', join(source, 'in'), 'l/planted']);
  await copy({ src: '/a.tar', dest: '/d/', attemptUnpackDockerCompatibility: true }).catch(() => {});
  assert.ok(!existsSync(join(dir, 'outside/planted')));
});

test('hard links are kept within a source, not between matches of a wildcard', async () => {
  file('d/a');
  linkSync(join(source, 'd/a'), join(source, 'd/b'));
  await copy({ src: '/d/*', dest: '/each/', allowWildcard: true });
  await copy({ src: '/d', dest: '/tree' });
  assert.equal(lstatSync(join(target, 'each/a')).nlink, 1);
  assert.equal(lstatSync(join(target, 'tree/a')).nlink, 2);
});

test('a source that ends in a dot means its contents', async () => {
  file('d/a');
  mkdirSync(join(target, 'out'));
  await copy({ src: 'd/.', dest: '/out' });
  assert.equal(read('out/a'), 'd/a');
});

test('modes in the corners are those of BuildKit', () => {
  // Text, mode, is a directory, result: recorded from BuildKit's parser.
  const recorded: readonly (readonly [string, number, boolean, number])[] = [
    ['u=g', 0o4751, false, 0o4551],
    ['=', 0o1777, false, 0o1000],
    ['+st', 0o644, false, 0o1644],
    ['=wx+s', 0o644, false, 0o6333],
    ['g=u', 0o3600, true, 0o3660],
    ['=X', 0o755, false, 0o111],
    ['u+t', 0, false, 0o1000],
    ['o=u-w', 0o640, false, 0o644],
  ];
  for (const [text, mode, isDirectory, expected] of recorded)
    assert.equal(parseMode(text)(mode, isDirectory).toString(8), expected.toString(8), text);
  for (const bad of ['', '8', '17777', 'u', 'x+r', 'a+rz', 'u+r,']) assert.throws(() => parseMode(bad), bad);
});
