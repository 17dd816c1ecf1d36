import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountsUnder } from '../sys/mountinfo.ts';
import { temporaryRoot } from '../testing/store.ts';
import { LocalMounter, readonlyMounts } from './local-mounter.ts';

test('a plain directory is used where it is, unless mounting is asked for', async () => {
  await using root = temporaryRoot();
  const source = join(root.path, 'source');
  mkdirSync(source);
  const mounter = new LocalMounter(join(root.path, 'mounts'));
  const bind = [{ type: 'bind', source, options: ['ro', 'rbind'] }];
  {
    await using plain = mounter.mount(bind);
    assert.equal(plain.path, source);
  }
  {
    await using enforced = mounter.mount(bind, { enforce: true });
    assert.throws(() => writeFileSync(join(enforced.path, 'x'), ''), /EROFS/);
  }
  assert.throws(() => mounter.mount([{ type: 'tmpfs', source: 'tmpfs', options: ['size=nonsense'] }]));
  assert.deepEqual(mountsUnder(root.path), []);
  assert.deepEqual(readdirSync(join(root.path, 'mounts')), []);
});

test('a busy mount goes with its last user', async () => {
  await using root = temporaryRoot();
  const mounter = new LocalMounter(join(root.path, 'mounts'));
  const tree = mounter.mount([{ type: 'tmpfs', source: 'tmpfs', options: [] }]);
  const cwd = process.cwd();
  process.chdir(tree.path);
  try {
    await tree[Symbol.asyncDispose]();
  } finally {
    process.chdir(cwd);
  }
  assert.deepEqual(mountsUnder(root.path), []);
});

test('the read-only form of an overlay shows what was written', async () => {
  await using root = temporaryRoot();
  const dir = (name: string): string => {
    mkdirSync(join(root.path, name));
    return join(root.path, name);
  };
  const [lower, upper, work] = [dir('lower'), dir('upper'), dir('work')];
  writeFileSync(join(lower, 'below'), '');
  writeFileSync(join(upper, 'above'), '');
  const mounter = new LocalMounter(join(root.path, 'mounts'));
  const options = [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lower}`];
  const mounts = readonlyMounts([{ type: 'overlay', source: 'overlay', options }]);
  await using tree = mounter.mount(mounts);
  assert.deepEqual(readdirSync(tree.path).sort(), ['above', 'below']);
  assert.throws(() => writeFileSync(join(tree.path, 'x'), ''), /EROFS/);
});

test('mount points that a crash left are cleared, those in use are not', async () => {
  await using root = temporaryRoot();
  const dir = join(root.path, 'mounts');
  mkdirSync(join(dir, 'left'), { recursive: true });
  const mounter = new LocalMounter(dir);
  assert.deepEqual(readdirSync(dir), []);
  await using tree = mounter.mount([{ type: 'tmpfs', source: 'tmpfs', options: [] }]);
  new LocalMounter(dir);
  writeFileSync(join(tree.path, 'still'), 'mounted');
  assert.equal(readdirSync(dir).length, 1);
});
