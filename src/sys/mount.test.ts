import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { detachAll, detachUnder, mountAll, parseMountOptions, umount, umountAsync } from './mount.ts';
import { mountsUnder, parseMountInfo } from './mountinfo.ts';

const base = mkdtempSync(join(tmpdir(), 'mount-'));
after(() => {
  detachUnder(base);
  rmSync(base, { recursive: true });
});

function dirs(...names: string[]): string[] {
  return names.map((name) => {
    mkdirSync(join(base, name), { recursive: true });
    return join(base, name);
  });
}

test('overlay of 200 layers with long names mounts, and unmounts off the main thread', async () => {
  const layers = dirs(...Array.from({ length: 200 }, (_, i) => `layer-with-a-rather-long-name-${i}/fs`));
  for (const [i, dir] of layers.entries()) writeFileSync(join(dir, `f${i}`), String(i));
  writeFileSync(join(layers[0]!, 'top'), 'first');
  writeFileSync(join(layers[199]!, 'top'), 'last');
  const [upper, work, target] = dirs('upper', 'work', 'merged');
  const options = [`lowerdir=${layers.join(':')}`, `upperdir=${upper}`, `workdir=${work}`, 'index=off'];
  mountAll([{ type: 'overlay', source: 'overlay', options }], target!);
  assert.equal(readFileSync(join(target!, 'f150'), 'utf8'), '150');
  assert.equal(readFileSync(join(target!, 'top'), 'utf8'), 'first');
  writeFileSync(join(target!, 'new'), '1');
  assert.equal(readFileSync(join(upper!, 'new'), 'utf8'), '1');
  assert.equal(mountsUnder(target!)[0]?.fsType, 'overlay');
  await umountAsync(target!);
  assert.deepEqual(mountsUnder(target!), []);
  await assert.rejects(umountAsync(target!), { code: 'EINVAL' });
});

test('a read-only bind refuses writes while its source does not', () => {
  const [source, target] = dirs('source', 'ro-target');
  mountAll([{ type: 'bind', source: source!, options: ['rbind', 'ro', 'nosuid'] }], target!);
  assert.throws(() => writeFileSync(join(target!, 'x'), ''), { code: 'EROFS' });
  writeFileSync(join(source!, 'x'), 'y');
  assert.equal(readFileSync(join(target!, 'x'), 'utf8'), 'y');
  assert.ok(mountsUnder(target!)[0]?.options.includes('nosuid'));
  umount(target!);
});

test('when a later mount fails the earlier ones are gone', () => {
  const [source, target] = dirs('s2', 't2');
  assert.throws(
    () =>
      mountAll(
        [
          { type: 'bind', source: source!, options: ['bind'] },
          { type: 'tmpfs', source: 'tmpfs', options: ['nonsense=1'] },
        ],
        target!,
      ),
    { code: 'EINVAL', message: `mount tmpfs ${target}: invalid argument` },
  );
  assert.deepEqual(mountsUnder(target!), []);
  detachAll(target!);
  detachAll(join(base, 'missing'));
});

test('options become flags, propagation and data', () => {
  const parsed = parseMountOptions(['rbind', 'ro', 'rw', 'nosuid', 'rslave', 'size=5', 'mode=0755']);
  assert.deepEqual(parsed, { flags: 0x5002, propagation: 0x84000, data: ['size=5', 'mode=0755'] });
});

test('mountinfo lines with optional fields and escaped names', () => {
  const [a, b] = parseMountInfo(
    '36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n' +
      '22 1 0:5 / /é ro - tmpfs none rw\n',
  );
  assert.equal(a?.mountPoint, '/mnt/a b\\c');
  assert.deepEqual(a?.optional, ['master:1', 'shared:2']);
  assert.deepEqual(
    [a?.fsType, a?.source, a?.major, a?.superOptions[1]],
    ['ext3', '/dev/root', 98, 'errors=continue'],
  );
  assert.deepEqual([b?.mountPoint, b?.optional, b?.options], ['/é', [], ['ro']]);
});
