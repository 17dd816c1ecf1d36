import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openRootfs } from '../sys/rootfs.ts';
import { lstat } from '../sys/stat.ts';
import { readArchive } from './compression.ts';
import { isArchive, unpackTo } from './unpack.ts';

const base = mkdtempSync(join(tmpdir(), 'unpack-'));
after(() => rmSync(base, { recursive: true, force: true }));
const context = { throwIfAborted: () => {}, report: () => {} };

/** Text, runs, and noise: every kind of symbol of the decoders. */
function sample(bytes: number): Buffer {
  const out = Buffer.alloc(bytes);
  let seed = 11;
  for (let i = 0; i < bytes; i++) {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    const zone = (i >> 14) % 4;
    out[i] = zone === 0 ? 97 : zone === 1 ? 97 + (i % 26) : zone === 2 ? seed >>> 24 : (out[i - 5000] ?? 0);
  }
  return out;
}

async function unpacked(path: string): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const chunk of readArchive(path)) pieces.push(Buffer.from(chunk));
  return Buffer.concat(pieces);
}

const TOOLS = [
  ['bzip2', ['-9']],
  ['bzip2', ['-1']],
  ['xz', ['-0']],
  ['xz', ['-6']],
  ['xz', ['--check=crc32', '--lzma2=preset=6e,lc=1,lp=2,pb=0']],
  ['xz', ['--check=sha256', '--block-size=100000']],
  ['gzip', []],
  ['zstd', []],
] as const;

test('bzip2 and xz give back what their tools packed', async (t) => {
  const path = join(base, 'packed');
  for (const [tool, flags] of TOOLS) {
    if (spawnSync(tool, ['--version']).error) {
      t.diagnostic(`${tool} is not installed`);
      continue;
    }
    for (const size of [0, 1, 150_000, 1_000_000]) {
      const data = sample(size);
      const packed = execFileSync(tool, [...flags, '-c'], { input: data, maxBuffer: 1 << 24 });
      writeFileSync(path, Buffer.concat([packed, packed]));
      assert.ok(
        (await unpacked(path)).equals(Buffer.concat([data, data])),
        `${tool} ${flags.join(' ')} ${size}`,
      );
      if (size !== 150_000 || !/bzip2|xz/.test(tool)) continue;
      writeFileSync(path, packed.subarray(0, packed.length >> 1));
      await assert.rejects(unpacked(path), `${tool} cut`);
      for (let i = 20; i < packed.length - 40; i += Math.floor(packed.length / 4)) {
        const broken = Buffer.from(packed);
        broken[i]! ^= 0x55;
        writeFileSync(path, broken);
        await assert.rejects(unpacked(path), `${tool} broken at ${i}`);
      }
    }
  }
});

test('what is an archive', async () => {
  const dir = join(base, 'kinds');
  mkdirSync(dir);
  execFileSync(
    'bash',
    ['-ec', 'echo hi > f; tar cf a.tar f; gzip -k a.tar; gzip -k f; head -c 1024 /dev/zero > z'],
    {
      cwd: dir,
    },
  );
  for (const [name, expected] of [
    ['a.tar', true],
    ['a.tar.gz', true],
    ['f', false],
    ['f.gz', false],
    ['z', false],
  ] as const)
    assert.equal(await isArchive(join(dir, name)), expected, name);
});

test('an archive is unpacked inside its root, with whiteout names as they are', async () => {
  const dir = join(base, 'tree');
  mkdirSync(dir);
  execFileSync(
    'bash',
    [
      '-ec',
      'mkdir -p in/d out; cd in; echo x > d/.wh.a; ln d/.wh.a hard; ln -s /etc out; touch -d @77 d; tar cf ../a.tar .',
    ],
    { cwd: dir },
  );
  {
    using root = openRootfs(join(dir, 'out'));
    await unpackTo(join(dir, 'a.tar'), root, { uid: 7, gid: 8 }, context);
  }
  const file = lstat(join(dir, 'out/d/.wh.a'));
  assert.deepEqual([file.uid, file.gid, file.nlink], [7, 8, 2]);
  assert.equal(lstat(join(dir, 'out/d')).mtimeSec, 77);
  assert.equal(readFileSync(join(dir, 'out/hard'), 'utf8'), 'x\n');
  using root = openRootfs(join(dir, 'out'));
  const cut = join(dir, 'cut.tar');
  writeFileSync(cut, readFileSync(join(dir, 'a.tar')).subarray(0, 700));
  await assert.rejects(unpackTo(cut, root, undefined, context), /failed to unpack archive/);
});
