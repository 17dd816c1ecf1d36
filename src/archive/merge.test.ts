import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { inlineRunner } from '../pool/serve.ts';
import { mountAll, umount } from '../sys/mount.ts';
import { lgetxattr, llistxattr, lsetxattr } from '../sys/xattr.ts';
import { archiveJobs } from './jobs.ts';

const base = mkdtempSync(join(tmpdir(), 'merge-'));
after(() => rmSync(base, { recursive: true, force: true }));
const runner = inlineRunner(archiveJobs);

let count = 0;
/** A new directory in which the shell lines ran. */
function tree(script = ''): string {
  const dir = join(base, String(count++));
  mkdirSync(dir);
  execFileSync('bash', ['-euc', script], { cwd: dir });
  return dir;
}

interface Diff {
  readonly lower: readonly string[];
  readonly upper: readonly string[];
}

function merge(target: string, diffs: readonly Diff[], below?: readonly string[]) {
  const dirs = [...new Set(diffs.flatMap(({ lower, upper }) => [...lower, ...upper]))];
  const places = (list: readonly string[]): number[] => list.map((dir) => dirs.indexOf(dir));
  const numbered = diffs.map(({ lower, upper }) => ({ lower: places(lower), upper: places(upper) }));
  const overlay = below !== undefined;
  return runner.run('mergeTrees', { target, below: below ?? [], diffs: numbered, dirs, overlay });
}

const whole = (dir: string): Diff => ({ lower: [], upper: [dir] });
const stat = (...path: string[]) => lstatSync(join(...path), { bigint: true });

test('files of one inode stay one file, linked to where they come from', async () => {
  const from = tree(
    'echo x > a; ln a b; mkdir d; ln a d/c; ln -s a s; mkfifo p; mknod n c 1 3; touch -d @7 d',
  );
  const target = tree();
  const { size, inodes } = await merge(target, [whole(from)]);
  for (const name of ['a', 'b', 'd/c']) assert.equal(stat(target, name).ino, stat(from, 'a').ino);
  for (const name of ['s', 'n']) assert.equal(stat(target, name).ino, stat(from, name).ino);
  assert.notEqual(stat(target, 'p').ino, stat(from, 'p').ino);
  assert.equal(stat(target, 'd').mtimeMs, 7000n);
  // The target itself, the directory and the FIFO.
  assert.equal(inodes, 3);
  assert.equal(size, Number(stat(target).blocks + stat(target, 'd').blocks) * 512);
});

test('between file systems files are copied, and stay one file where they were', async () => {
  const from = join(base, 'tmpfs');
  mkdirSync(from);
  mountAll([{ type: 'tmpfs', source: 'tmpfs', options: [] }], from);
  try {
    const script = 'head -c 10000 /dev/zero > a; chown 3:4 a; chmod 4711 a; touch -d @9 a; ln a b; ln -s x s';
    execFileSync('bash', ['-euc', script], { cwd: from });
    lsetxattr(join(from, 'a'), 'trusted.some', Buffer.from('v'));
    const target = tree();
    const { size } = await merge(target, [whole(from)]);
    const a = stat(target, 'a');
    assert.deepEqual([a.mode & 0o7777n, a.uid, a.gid, a.nlink, a.mtimeMs], [0o4711n, 3n, 4n, 2n, 9000n]);
    assert.equal(lgetxattr(join(target, 'b'), 'trusted.some')?.toString(), 'v');
    assert.ok(size >= 10_000);
  } finally {
    umount(from);
  }
});

test('marks of overlayfs are made for what lies below, and never taken over', async () => {
  const below = tree('mkdir -p d/sub keep; touch d/x d/sub/y keep/z file');
  const lower = tree('mkdir d keep; touch d/x keep/never file');
  const upper = tree('mkdir d; mknod keep c 0 0; mknod file c 0 0; touch d/new');
  lsetxattr(join(upper, 'd'), 'trusted.overlay.opaque', Buffer.from('y'));
  lsetxattr(join(upper, 'd/new'), 'trusted.overlay.origin', Buffer.from('o'));
  const again = tree('mkdir keep; touch keep/in');
  const target = tree();
  const steps = { lower: [lower], upper: [upper, lower] };
  await merge(target, [steps, whole(again)], [below]);
  assert.deepEqual(readdirSync(target).sort(), ['d', 'file', 'keep']);
  assert.equal(stat(target, 'file').rdev, 0n);
  assert.ok(lstatSync(join(target, 'file')).isCharacterDevice());
  // Only what the difference deletes is hidden, not what the layer below has beside it.
  assert.deepEqual(readdirSync(join(target, 'd')).sort(), ['new', 'x']);
  assert.equal(lgetxattr(join(target, 'd'), 'trusted.overlay.opaque'), undefined);
  assert.equal(lgetxattr(join(target, 'keep'), 'trusted.overlay.opaque')?.toString(), 'y');
  const plain = tree();
  await merge(plain, [steps], []);
  assert.deepEqual(readdirSync(plain, { recursive: true }).sort(), ['d', 'd/new']);
  assert.deepEqual(llistxattr(join(plain, 'd/new')), []);
});

test('links in trees are no ways out of them', async () => {
  const outside = tree('mkdir d; echo kept > d/f');
  const first = tree(`ln -s ${outside}/d d; ln -s ${outside} e`);
  const second = tree('mkdir d e; echo new > d/f; echo new > e/g');
  const target = tree();
  const gone = { lower: [second], upper: [] };
  await merge(target, [whole(first), whole(second), whole(first), gone]);
  assert.deepEqual(readdirSync(target), []);
  assert.equal(readFileSync(join(outside, 'd/f'), 'utf8'), 'kept\n');
  assert.deepEqual(readdirSync(outside), ['d']);
});
