import assert from 'node:assert/strict';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { walkTree } from '../match/walk.ts';
import { sendDirectory } from './caller/filesend.ts';
import { divisibleSource } from './fsutil/source.ts';
import { withSession } from './harness.ts';
import { type ExportTarget, fileSendService } from './host/filesend.ts';

const DIRS = 30;

function fill(from: string): void {
  const dirs = ['top', 'top/of', 'top/of/all'];
  for (let i = 0; i < DIRS; i++) {
    const dir = `top/of/all/${i}`;
    dirs.push(dir);
    mkdirSync(join(from, dir), { recursive: true });
    for (let k = 0; k < 50; k++) writeFileSync(join(from, dir, `f${k}`), `${i} ${k}`);
    if (i % 2 === 0) linkSync(join(from, dir, 'f0'), join(from, dir, 'g'));
  }
  for (const [i, dir] of dirs.entries()) utimesSync(join(from, dir), 1000 + i, 1000 + i);
}

/** All that is to be seen of a tree. */
function describe(root: string): string[] {
  return [...walkTree(root)].map(({ path, fullPath, kind }) => {
    const { mode, nlink, mtimeMs } = statSync(fullPath);
    const content = kind === 'file' ? readFileSync(fullPath, 'utf8') : '';
    return [path, mode.toString(8), nlink, mtimeMs, content].join(' ');
  });
}

test('a large directory goes in two calls and arrives as it is', async (t) => {
  const from = mkdtempSync(join(tmpdir(), 'from-'));
  const to = mkdtempSync(join(tmpdir(), 'to-'));
  t.after(() => {
    for (const dir of [from, to]) rmSync(dir, { recursive: true });
  });
  fill(from);
  const targets = new Map<number, ExportTarget>([[0, { kind: 'directory', dir: to }]]);
  const calls = t.mock.method(targets, 'get').mock;
  const totals: number[] = [];
  let done = 0;
  await withSession([fileSendService(targets, { uid: 0, gid: 0 })], async (session, signal) => {
    const onProgress = (bytes: number, last: boolean): void => {
      totals.push(bytes);
      if (last) done++;
    };
    await sendDirectory(
      session,
      divisibleSource(from, () => {}),
      { exporterId: 0, signal, onProgress },
    );
  });
  assert.equal(calls.callCount(), 2);
  const described = describe(to);
  assert.equal(described.length, 3 + DIRS * 51.5);
  assert.deepEqual(described, describe(from));
  assert.deepEqual(
    totals,
    totals.toSorted((a, b) => a - b),
  );
  assert.equal(done, 1);
});
