import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileArchive } from './pack.ts';
import { BLOCK_BYTES, type TarHeader, TarType } from './tar-header.ts';
import { readTarEntries, TarReader } from './tar-reader.ts';
import { encodeTarHeader, padding, TAR_END } from './tar-writer.ts';

const PLAIN: TarHeader = {
  name: 'a',
  type: TarType.file,
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: { sec: 1_700_000_000, nsec: 0 },
  linkname: '',
  devMajor: 0,
  devMinor: 0,
};

function archive(...entries: { header: Partial<TarHeader>; data?: string }[]): Buffer {
  const parts: Buffer[] = [];
  for (const { header, data } of entries) {
    const bytes = Buffer.from(data ?? '');
    parts.push(encodeTarHeader({ ...PLAIN, size: bytes.length, ...header }), bytes);
    parts.push(Buffer.alloc(padding(bytes.length)));
  }
  return Buffer.concat([...parts, TAR_END]);
}

function roundTrip(header: Partial<TarHeader>): TarHeader {
  return readTarEntries(archive({ header }), 0)[0]!.header;
}

test('what fits is a single ustar block, the rest goes to PAX records', () => {
  assert.equal(encodeTarHeader(PLAIN).length, BLOCK_BYTES);
  assert.equal(encodeTarHeader({ ...PLAIN, name: 'x'.repeat(100) }).length, BLOCK_BYTES);
  assert.equal(encodeTarHeader({ ...PLAIN, name: 'x'.repeat(101) }).length, 3 * BLOCK_BYTES);
  const splittable = `${'d'.repeat(150)}/${'f'.repeat(100)}`;
  assert.equal(encodeTarHeader({ ...PLAIN, name: splittable }).length, BLOCK_BYTES);
  assert.equal(encodeTarHeader({ ...PLAIN, name: 'é' }).length, 3 * BLOCK_BYTES);
  assert.equal(encodeTarHeader({ ...PLAIN, uid: 0o7777777 }).length, BLOCK_BYTES);
  assert.equal(encodeTarHeader({ ...PLAIN, uid: 0o10000000 }).length, 3 * BLOCK_BYTES);
});

test('headers come back as they were written', () => {
  const cases: Partial<TarHeader>[] = [
    { name: `${'d'.repeat(150)}/${'f'.repeat(100)}` },
    { name: `${'d'.repeat(200)}/${'f'.repeat(200)}/é` },
    { type: TarType.symlink, linkname: 'ü'.repeat(80) },
    { uid: 4_294_967_294, gid: 3_000_000_000 },
    { mtime: { sec: -5, nsec: 0 } },
    { type: TarType.char, devMajor: 5, devMinor: 1, mode: 0o4755 },
  ];
  for (const header of cases) {
    const back = roundTrip(header);
    for (const [key, value] of Object.entries(header)) assert.deepEqual(back[key as keyof TarHeader], value);
  }
  const value = Buffer.from([0, 1, 255, 10, 61, 0]);
  assert.deepEqual(
    roundTrip({ xattrs: new Map([['security.capability', value]]) }).xattrs,
    new Map([['security.capability', value]]),
  );
});

test('GNU tar reads what is written, and its own long names are read', () => {
  const long = `${'long/'.repeat(40)}name`;
  const files = [
    { name: 'dir/', data: Buffer.alloc(0) },
    { name: 'dir/é', data: Buffer.from('hello') },
    { name: long, data: Buffer.from('x'.repeat(1000)) },
  ];
  const listed = spawnSync('tar', ['-tf', '-'], { input: Buffer.concat([...fileArchive(files)]) });
  assert.equal(listed.status, 0, listed.stderr.toString());
  assert.deepEqual(listed.stdout.toString().trim().split('\n').length, 3);
  for (const format of ['gnu', 'pax', 'ustar', 'v7', 'oldgnu']) {
    const made = spawnSync('bash', [
      '-c',
      `t=$(mktemp -d) && cd $t && mkdir -p ${format === 'v7' ? 'x' : 'x/'.repeat(60)} && echo hi > x/f && ln x/f x/g &&
       tar --format=${format} --sort=name --mtime=@1000000000.123456789 -cf - x; rm -rf $t`,
    ]);
    const entries = readTarEntries(made.stdout, 100);
    const file = entries.find((e) => e.header.name === 'x/f')!;
    assert.equal(file.data.toString(), 'hi\n', format);
    assert.equal(entries.find((e) => e.header.name === 'x/g')!.header.linkname, 'x/f');
    assert.equal(file.header.mtime.sec, 1_000_000_000);
    if (format === 'pax') assert.equal(file.header.mtime.nsec, 123_456_789);
    if (format === 'gnu') assert.ok(entries.some((e) => e.header.name === 'x/'.repeat(60)));
  }
});

test('base-256 numbers', () => {
  const block = encodeTarHeader(PLAIN);
  block.write('80000000000000000000000f', 136, 'hex');
  reseal(block);
  assert.equal(readTarEntries(Buffer.concat([block, TAR_END]), 0)[0]!.header.mtime.sec, 15);
  block.write('ffffffffffffffffffffffff', 136, 'hex');
  reseal(block);
  assert.equal(readTarEntries(Buffer.concat([block, TAR_END]), 0)[0]!.header.mtime.sec, -1);
});

function reseal(block: Buffer): void {
  block.fill(32, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

test('any split into chunks reads the same', () => {
  const bytes = archive(
    { header: { name: 'n'.repeat(300) }, data: 'x'.repeat(700) },
    { header: { name: 'dir/', type: TarType.dir } },
    { header: { name: 'b' }, data: 'abc' },
  );
  const read = (step: number): string[] => {
    const seen: string[] = [];
    const reader = new TarReader({
      entry: (h) => seen.push(`${h.name} ${h.size} `),
      data: (chunk) => void (seen[seen.length - 1] += chunk.toString()),
      end: () => void (seen[seen.length - 1] += ' end'),
    });
    for (let at = 0; at < bytes.length; at += step) reader.push(bytes.subarray(at, at + step));
    reader.close();
    return seen;
  };
  const whole = read(bytes.length);
  assert.equal(whole.length, 3);
  for (const step of [1, 7, 511, 512, 513, 1500]) assert.deepEqual(read(step), whole);
});

test('an archive may end right after its last file, without padding or closing blocks', () => {
  const whole = archive({ header: {}, data: 'x'.repeat(600) });
  const entries = readTarEntries(whole.subarray(0, 512 + 600), 1e6);
  assert.equal(entries[0]?.data.length, 600);
});

test('damaged archives are errors, and never hang or crash', () => {
  const good = archive(
    { header: { name: 'é'.repeat(60) }, data: 'data' },
    { header: {}, data: 'x'.repeat(600) },
  );
  assert.throws(() => readTarEntries(good.subarray(0, 1500), 1e6), /unexpected EOF/);
  let seed = 99;
  const random = (below: number): number =>
    ((seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff) >>> 8) % below;
  let refused = 0;
  for (let round = 0; round < 3000; round++) {
    const bytes = Buffer.from(good);
    for (let i = 0; i <= random(3); i++) bytes[random(bytes.length)] = random(256);
    try {
      readTarEntries(bytes.subarray(0, bytes.length - random(200)), 1e6);
    } catch (error) {
      assert.match((error as Error).message, /^archive\/tar: /);
      refused++;
    }
  }
  assert.ok(refused > 500);
});

test('oversized and sparse headers are refused', () => {
  const huge = encodeTarHeader({ ...PLAIN, type: 'x', size: 2 << 20 });
  assert.throws(() => readTarEntries(huge, 0), /header field too long/);
  const sparse = encodeTarHeader({ ...PLAIN, type: 'S' });
  assert.throws(() => readTarEntries(sparse, 0), /sparse/);
});
