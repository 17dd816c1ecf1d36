import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
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
import { walkTree } from '../match/walk.ts';
import { inlineRunner } from '../pool/serve.ts';
import { readXattrs } from '../sys/xattr.ts';
import { type TarEntry, tarOfEntries } from '../testing/tar.ts';
import { archiveJobs } from './jobs.ts';
import { TarType } from './tar-header.ts';

const base = mkdtempSync(join(tmpdir(), 'settle-'));
after(() => rmSync(base, { recursive: true, force: true }));
const runner = inlineRunner(archiveJobs);
let count = 0;
function fresh(): string {
  const dir = join(base, String(count++));
  mkdirSync(dir);
  return dir;
}

/** Extracts into a new directory, as upper one of an overlay: at once, or ahead of the layers below. */
async function extracted(archive: Buffer, parents: readonly string[], ahead: boolean): Promise<string> {
  const target = fresh();
  const blob = join(fresh(), 'blob');
  writeFileSync(blob, archive);
  const input = { blob, target, whiteouts: 'overlay' as const };
  if (!ahead) {
    const { unsettled } = await runner.run('applyLayer', { ...input, parents });
    assert.equal(unsettled, undefined);
    return target;
  }
  const { unsettled } = await runner.run('applyLayer', { ...input, parents: [], ahead });
  if (unsettled) await runner.run('settleLayer', { target, parents, unsettled });
  return target;
}

/** All that a tree is; times of now are `new`. */
function described(dir: string): string[] {
  const lines: string[] = [];
  for (const { path, fullPath } of walkTree(dir)) {
    const stat = lstatSync(fullPath);
    const what = stat.isFile()
      ? readFileSync(fullPath, 'utf8')
      : stat.isSymbolicLink()
        ? readlinkSync(fullPath)
        : '';
    const xattrs = Object.entries(readXattrs(fullPath) ?? {}).map(([name, value]) => `${name}=${value}`);
    const time = stat.mtimeMs > 1e12 ? 'new' : stat.isCharacterDevice() ? '' : stat.mtimeMs;
    lines.push(
      [path, stat.mode.toString(8), stat.uid, stat.gid, stat.rdev, time, what, ...xattrs.sort()].join(' '),
    );
  }
  return lines;
}

test('what was unpacked ahead of its parents is the same in the end', async () => {
  const lowest = fresh();
  const lower = fresh();
  execFileSync(
    'bash',
    [
      '-ec',
      'mkdir -p d/sub o real p/q; touch d/gone d/sub/x o/old real/hidden p/q/f; chmod 1711 p; chown 7:8 p; chmod 700 p/q; ',
    ],
    { cwd: lowest },
  );
  execFileSync('bash', ['-ec', 'mkdir -p d; touch d/own; mknod d/sub c 0 0'], { cwd: lower });
  const archive = tarOfEntries([
    { name: 'd/', mode: 0o755 },
    { name: 'd/.wh.gone', uid: 3 },
    { name: 'd/.wh.never' },
    { name: 'd/.wh.sub' },
    { name: 'new/', mode: 0o700 },
    { name: 'new/.wh.nothing' },
    { name: 'o/', mode: 0o755 },
    { name: 'o/.wh..wh..opq' },
    { name: 'o/.wh.old' },
    { name: 'p/q/r/file', data: 'deep' },
    { name: 'p/other', data: 'x' },
    { name: 'link', type: TarType.symlink, linkname: 'real' },
    { name: 'link/.wh.hidden' },
    { name: '.wh.back' },
    { name: 'back', data: 'again' },
    { name: 'late/file', data: '1' },
    { name: 'late/', mode: 0o711, uid: 9 },
  ]);
  const [usual, ahead] = await Promise.all(
    [false, true].map((how) => extracted(archive, [lower, lowest], how)),
  );
  assert.deepEqual(described(ahead!), described(usual!));
  const text = described(ahead!).join('\n');
  assert.doesNotMatch(text, /never|nothing|o\/old|d\/sub/);
  assert.match(text, /d\/gone 20000 3/);
  assert.match(text, /^p 41711 7 8/m);
});

test('a layer that has all its directories and hides nothing needs no second look', async () => {
  const archive = tarOfEntries([
    { name: 'a/', mode: 0o755 },
    { name: 'a/b/', mode: 0o750 },
    { name: 'a/b/c', data: 'x' },
  ]);
  const blob = join(fresh(), 'blob');
  writeFileSync(blob, archive);
  const target = fresh();
  const result = await runner.run('applyLayer', { blob, target, whiteouts: 'overlay', ahead: true });
  assert.equal('unsettled' in result, false);
});

test('what replaces the place of a mark later is not followed, nor asked for what lies behind it', async () => {
  const lower = fresh();
  execFileSync('bash', ['-ec', 'mkdir -p a/b; touch a/b/x'], { cwd: lower });
  for (const later of [
    { name: 'a', data: 'file' },
    { name: 'a', type: TarType.symlink, linkname: '/' },
    { name: 'a', type: TarType.symlink, linkname: 'nowhere' },
  ]) {
    const archive = tarOfEntries([
      { name: 'a/b/.wh.x' },
      { name: 'a/none/.wh.x' },
      { name: 'a/etc/.wh.passwd' },
      later,
    ]);
    const [usual, ahead] = await Promise.all([false, true].map((how) => extracted(archive, [lower], how)));
    assert.deepEqual(described(ahead!), described(usual!));
    assert.equal(described(ahead!).length, 1);
  }
});

test('a directory that the archive lists by another way keeps what it says there', async () => {
  const lower = fresh();
  execFileSync('bash', ['-ec', 'mkdir -p real/sub; chmod 777 real/sub; chown 5 real/sub; ln -s real link'], {
    cwd: lower,
  });
  const archive = tarOfEntries([
    { name: 'real/', mode: 0o755 },
    { name: 'link', type: TarType.symlink, linkname: 'real' },
    { name: 'link/sub/file', data: 'x' },
    { name: 'real/sub/', mode: 0o700 },
  ]);
  for (const how of [false, true]) {
    const lines = described(await extracted(archive, [lower], how));
    assert.ok(
      lines.some((line) => line.startsWith('real/sub 40700 0 0')),
      lines.join(),
    );
  }
});

test('a layer of which too much depends on its parents is given up ahead of them', async () => {
  const archive = tarOfEntries(Array.from({ length: 2001 }, (_, i) => ({ name: `d/.wh.${i}` })));
  const blob = join(fresh(), 'blob');
  writeFileSync(blob, archive);
  const input = { blob, whiteouts: 'overlay' as const };
  const given = await runner.run('applyLayer', { ...input, target: fresh(), ahead: true });
  assert.equal(given.tooMuch, true);
  const target = fresh();
  const { tooMuch } = await runner.run('applyLayer', { ...input, target, parents: [fresh()] });
  assert.equal(tooMuch, undefined);
  assert.deepEqual(
    described(target).map((line) => line.split(' ')[0]),
    ['d'],
  );
});

test('random layers are the same both ways', async () => {
  let seed = 11;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >>> 8) % below;
  };
  const path = (): string => Array.from({ length: 1 + random(3) }, () => 'abc'[random(3)]!).join('/');
  const entry = (): TarEntry => {
    const at = path();
    const slash = at.lastIndexOf('/') + 1;
    const kind = random(10);
    if (kind < 3) return { name: `${at}/`, mode: [0o755, 0o700][random(2)]!, uid: random(3) };
    if (kind < 6) return { name: at, data: String(random(100)) };
    if (kind < 9) return { name: `${at.slice(0, slash)}.wh.${at.slice(slash)}` };
    return { name: `${at}/.wh..wh..opq` };
  };
  for (let round = 0; round < 60; round++) {
    const below: string[] = [];
    for (let layer = 0; layer < 3; layer++) {
      const archive = tarOfEntries(Array.from({ length: 1 + random(14) }, entry));
      let trees: string[];
      try {
        trees = await Promise.all([false, true].map((how) => extracted(archive, below, how)));
      } catch {
        continue; // an archive that makes no sense, like a file below a file
      }
      assert.deepEqual(described(trees[1]!), described(trees[0]!), `round ${round}, layer ${layer}`);
      below.unshift(trees[layer % 2]!);
    }
  }
});
