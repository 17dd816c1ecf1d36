import assert from 'node:assert/strict';
import {
  closeSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { processCapabilities } from './caps.ts';
import { SystemError, systemErrorText } from './errno.ts';
import { cfunc, lastErrno } from './ffi.ts';
import { type CopyOptions, type CopyWays, copyFileData, lchown, lutimes, mknod, tryFlock } from './file.ts';
import { fileSystemSpace, fileSystemType, fstat, inodeKey, lstat, lstatOrNone, makedev } from './stat.ts';

const base = mkdtempSync(join(tmpdir(), 'sysfile-'));
after(() => rmSync(base, { recursive: true }));
const at = (name: string): string => join(base, name);

test('lstat agrees with Node', () => {
  writeFileSync(at('a'), 'hello');
  lutimes(at('a'), { sec: 12, nsec: 5 }, { sec: 1e9, nsec: 123456789 });
  const ours = lstat(at('a'));
  const node = lstatSync(at('a'), { bigint: true });
  assert.equal(BigInt(ours.mtimeSec) * 1_000_000_000n + BigInt(ours.mtimeNsec), node.mtimeNs);
  assert.equal(BigInt(ours.atimeSec) * 1_000_000_000n + BigInt(ours.atimeNsec), node.atimeNs);
  assert.equal(BigInt(ours.ctimeSec) * 1_000_000_000n + BigInt(ours.ctimeNsec), node.ctimeNs);
  assert.deepEqual([ours.mode, ours.uid, ours.size, ours.nlink, ours.blocks].map(BigInt), [
    node.mode,
    node.uid,
    node.size,
    node.nlink,
    node.blocks,
  ]);
  assert.equal((BigInt(ours.inoHigh) << 32n) | BigInt(ours.inoLow), node.ino);
  assert.equal(BigInt(makedev(ours.devMajor, ours.devMinor)), node.dev);
  const fd = openSync(at('a'), 'r');
  assert.equal(inodeKey(fstat(fd)), inodeKey(ours));
  closeSync(fd);
  assert.equal(lstatOrNone(at('none')), undefined);
  assert.throws(() => lstat(at('none')), {
    code: 'ENOENT',
    errno: -2,
    message: /^lstat .*none: no such file/,
  });
});

test('nodes, owners and device numbers beyond 8 bits', () => {
  mknod(at('dev'), 0o020600, 300, 70000);
  const stat = lstat(at('dev'));
  assert.deepEqual([stat.rdevMajor, stat.rdevMinor], [300, 70000]);
  symlinkSync('nowhere', at('link'));
  lchown(at('link'), 7, 4294967294);
  assert.deepEqual([lstat(at('link')).uid, lstat(at('link')).gid], [7, 4294967294]);
});

test('a lock is refused to a second open file and free after the close', () => {
  const one = openSync(at('lock'), 'w');
  const two = openSync(at('lock'), 'w');
  assert.equal(tryFlock(one, 'exclusive'), true);
  assert.equal(tryFlock(two, 'shared'), false);
  closeSync(one);
  assert.equal(tryFlock(two, 'exclusive'), true);
  closeSync(two);
});

test('file data is copied whole, from proc too, and can be stopped', () => {
  const data = Buffer.alloc(300_001, 'abcdefg');
  writeFileSync(at('from'), data);
  const copy = (from: string, to: string, options: CopyOptions = {}): void => {
    const a = openSync(from, 'r');
    const b = openSync(to, 'w');
    try {
      copyFileData(a, b, options);
    } finally {
      closeSync(a);
      closeSync(b);
    }
  };
  copy(at('from'), at('to'));
  assert.deepEqual(readFileSync(at('to')), data);
  copy('/proc/version', at('version'));
  assert.equal(readFileSync(at('version'), 'utf8'), readFileSync('/proc/version', 'utf8'));
  const ways: CopyWays = { clone: false, range: false };
  copy(at('from'), at('by-hand'), { ways, size: data.length });
  assert.deepEqual(readFileSync(at('by-hand')), data);
  const stop = (): never => {
    throw new Error('stopped');
  };
  assert.throws(() => copy(at('from'), at('no'), { onChunk: stop }), /stopped/);
});

test('system errors print upstream-like text, Node ones too', () => {
  assert.equal(new SystemError(16, 'unmount', '/x').message, 'unmount /x: device or resource busy');
  assert.equal(new SystemError('EXDEV', 'link', 'a', 'b').message, 'link a b: invalid cross-device link');
  assert.throws(
    () => openSync(at('dir/x'), 'r'),
    (error) => systemErrorText(error) === `open ${at('dir/x')}: no such file or directory`,
  );
});

test('capabilities and file system facts', () => {
  assert.ok(processCapabilities('effective').includes('CAP_CHOWN'));
  const space = fileSystemSpace(base);
  assert.ok(space.totalBytes >= space.freeBytes && space.freeBytes > 0);
  assert.equal(fileSystemType('/proc').startsWith('0x'), true);
});

test('system calls work in a worker thread', async () => {
  const url = new URL('./stat.ts', import.meta.url).href;
  const worker = new Worker(
    `const { parentPort } = require('node:worker_threads');
     import(${JSON.stringify(url)}).then((m) => parentPort.postMessage(m.lstat('/').mode));`,
    { eval: true },
  );
  const mode = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  assert.equal(mode, lstat('/').mode);
  await worker.terminate();
});

test('an error keeps its number whatever runs before it is read', () => {
  const missing = cfunc<[string, number]>('access', 'int', ['const char *', 'int']);
  assert.equal(missing('/nothing/here', 0), -1);
  const unused = cfunc<[number]>('close', 'int', ['int']);
  const garbage = Array.from({ length: 200_000 }, (_, i) => ({ i, text: `x${i}` }));
  process.stdout.write('');
  assert.throws(() => readFileSync('/proc/self/mem/x'));
  assert.equal(lastErrno(), 2, String(garbage.length));
  assert.equal(unused(-1), -1);
  assert.equal(lastErrno(), 9);
});
