import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemoryFile } from './memory-file.ts';
import { memoryTree } from './memory-source.ts';
import type { DirectorySourceOptions } from './source.ts';
import { GO_DIR, GO_SYMLINK } from './stat.ts';

async function list(
  files: Readonly<Record<string, MemoryFile>>,
  options: DirectorySourceOptions = {},
): Promise<string[]> {
  const stats = await Array.fromAsync(memoryTree(files)(options).entries());
  return stats.map(({ path }) => path);
}

test('parents come before children, names in the order of their bytes', async () => {
  const files = { 'b/z': '', 'b/a': '', a: '', 'b.x': '', './c//d': '' };
  assert.deepEqual(await list(files), ['a', 'b', 'b/a', 'b/z', 'b.x', 'c', 'c/d']);
});

test('patterns select as they do in a folder; links are followed', async () => {
  const files = { 'src/a.ts': '', 'src/b.js': '', link: { symlink: 'src/b.js' }, 'node_modules/x': '' };
  assert.deepEqual(await list(files, { includePatterns: ['src/*.ts'] }), ['src', 'src/a.ts']);
  assert.deepEqual(await list(files, { excludePatterns: ['node_modules', 'src', '!src/b.js'] }), [
    'link',
    'src',
    'src/b.js',
  ]);
  assert.deepEqual(await list(files, { followPaths: ['link'] }), ['link', 'src', 'src/b.js']);
});

test('modes, types, times and content', async () => {
  const modTime = new Date('2020-01-02T03:04:05Z');
  const tree = memoryTree({
    text: 'é',
    bytes: { content: new Uint8Array([1, 2, 3]), mode: 0o4755, modTime },
    link: { symlink: 'text' },
    empty: { directory: true, mode: 0o700 },
  })({});
  const stats = Object.fromEntries((await Array.fromAsync(tree.entries())).map((stat) => [stat.path, stat]));
  assert.equal(stats.text?.size, 2);
  assert.equal(stats.text?.mode, 0o644);
  assert.equal(stats.bytes?.mode, 0x0080_0000 | 0o755);
  assert.equal((stats.bytes?.modTime ?? 0n) / 1_000_000n, BigInt(modTime.getTime()));
  assert.equal(stats.link?.mode, (GO_SYMLINK | 0o777) >>> 0);
  assert.equal(stats.link?.linkname, 'text');
  assert.equal(stats.empty?.mode, (GO_DIR | 0o700) >>> 0);
  assert.deepEqual(Buffer.concat(await Array.fromAsync(tree.read('text'))).toString(), 'é');
  assert.deepEqual(await Array.fromAsync(tree.read('empty')), []);
});

test('other content of the same size is another time, the same content the same', async () => {
  const time = async (content: string): Promise<bigint> =>
    (await Array.fromAsync(memoryTree({ f: content })({}).entries()))[0]!.modTime;
  assert.equal(await time('a'), await time('a'));
  assert.notEqual(await time('a'), await time('b'));
});

test('paths that lead out, and files that are directories, are refused', () => {
  for (const path of ['/abs', '../up', 'a/../../up', ''])
    assert.throws(() => memoryTree({ [path]: '' }), /invalid path .* must be relative and stay inside/);
  assert.throws(() => memoryTree({ a: '', 'a/b': '' }), /"a" is a file in memory, and a directory/);
  assert.throws(() => memoryTree({ 'a/b': '', a: '' }), /"a" is more than one file/);
});
