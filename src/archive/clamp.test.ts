import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clampTimes } from './clamp.ts';
import { BLOCK_BYTES, type TarHeader } from './tar-header.ts';
import { readTarEntries } from './tar-reader.ts';
import { encodePaxRecords, encodeTarHeader, padding, putChecksum, putOctal, TAR_END } from './tar-writer.ts';

const MAX = 1_000_000_000;

function header(name: string, sec: number, more: Partial<TarHeader> = {}): TarHeader {
  return {
    name,
    type: '0',
    mode: 0o644,
    uid: 1,
    gid: 2,
    size: 0,
    mtime: { sec, nsec: 0 },
    linkname: '',
    devMajor: 0,
    devMinor: 0,
    ...more,
  };
}

function entry(head: TarHeader, data = ''): Buffer {
  const encoded = encodeTarHeader({ ...head, size: data.length });
  return Buffer.concat([encoded, Buffer.from(data), Buffer.alloc(padding(data.length))]);
}

/** A header of PAX records in front of an entry. */
function pax(records: Record<string, string>): Buffer {
  const data = encodePaxRecords(new Map(Object.entries(records).map(([k, v]) => [k, Buffer.from(v)])));
  const block = encodeTarHeader(header('PaxHeaders.0/x', 0, { type: 'x', size: data.length }));
  return Buffer.concat([block, data, Buffer.alloc(padding(data.length))]);
}

async function clamp(archive: Buffer, { step = archive.length, max = MAX } = {}): Promise<Buffer> {
  async function* pieces(): AsyncGenerator<Buffer> {
    for (let at = 0; at < archive.length; at += step) yield archive.subarray(at, at + step);
  }
  return Buffer.concat(await Array.fromAsync(clampTimes(pieces(), max)));
}

const times = (archive: Buffer): [string, number][] =>
  readTarEntries(archive, 1 << 20).map(({ header: { name, mtime } }) => [name, mtime.sec + mtime.nsec / 1e9]);

test('late times become the latest one allowed, all else stays', async () => {
  const xattrs = new Map([['user.x', Buffer.from([0, 10, 255])]]);
  const long = `${'d/'.repeat(80)}ünïcode`;
  const make = (clamped: boolean): Buffer => {
    const at = (sec: number): number => (clamped ? Math.min(sec, MAX) : sec);
    return Buffer.concat([
      entry(header('dir/', at(MAX + 5), { type: '5', mode: 0o1777 })),
      entry(header('dir/old', MAX - 5), 'old'),
      entry(header('dir/same', MAX), 'x'.repeat(BLOCK_BYTES)),
      entry(header('dir/new', at(MAX * 2)), 'new'.repeat(700)),
      entry(header(long, at(MAX + 1), { uid: 3_000_000, xattrs })),
      entry(header('link', at(MAX + 1), { type: '2', linkname: 'dir/new' })),
      TAR_END,
    ]);
  };
  const want = make(true);
  for (const step of [1, 100, 511, 512, 513, 10_240])
    assert.deepEqual(await clamp(make(false), { step }), want, `in pieces of ${step}`);
  assert.deepEqual(await clamp(want), want);
});

test('device numbers that are left empty become zeros', async () => {
  const plain = encodeTarHeader(header('a', 1));
  const empty = Buffer.from(plain);
  empty.fill(0, 329, 345);
  putChecksum(empty);
  assert.ok((await clamp(Buffer.concat([empty, TAR_END]))).equals(Buffer.concat([plain, TAR_END])));
});

test('times in PAX records', async () => {
  const make = (records: Record<string, string>, sec: number, data = ''): Buffer =>
    Buffer.concat([pax(records), entry(header('f', sec), data), entry(header('g', 7)), TAR_END]);
  const next = entry(header('g', 7));
  // The only record goes: the header has room for the time.
  assert.deepEqual(
    await clamp(make({ mtime: `${MAX}.5` }, MAX, 'abc')),
    Buffer.concat([entry(header('f', MAX), 'abc'), next, TAR_END]),
  );
  assert.deepEqual(
    await clamp(make({ mtime: '99999999999.25', atime: `${MAX + 3}`, ctime: '12.5', path: 'p' }, 0)),
    Buffer.concat([
      pax({ atime: String(MAX), ctime: '12.5', path: 'p' }),
      entry(header('f', MAX)),
      next,
      TAR_END,
    ]),
  );
  const early = make({ mtime: `${MAX - 1}.75`, 'SCHILY.xattr.user.a': 'b' }, MAX - 1);
  for (const step of [7, 512, early.length]) assert.deepEqual(await clamp(early, { step }), early);
  // A size that only the records know.
  const big = Buffer.concat([pax({ size: '600' }), entry(header('f', 9)), Buffer.alloc(1024, 'y'), TAR_END]);
  assert.deepEqual(times(await clamp(big)), [['f', 9]]);
});

test('GNU headers: long names, times of access and change', async () => {
  const gnu = (head: TarHeader): Buffer => {
    const block = encodeTarHeader(head);
    block.write('ustar  \0', 257, 'latin1');
    if (head.type === '0') for (const at of [345, 357]) putOctal(block, at, 12, MAX + 9);
    putChecksum(block);
    return block;
  };
  const name = 'n'.repeat(150);
  const longName = [
    gnu(header('@LongLink', 0, { type: 'L', size: 151 })),
    Buffer.from(name.padEnd(512, '\0')),
  ];
  const clamped = await clamp(Buffer.concat([...longName, gnu(header('n', MAX + 9)), TAR_END]));
  assert.deepEqual(times(clamped), [[name, MAX]]);
  const block = clamped.subarray(2 * BLOCK_BYTES);
  for (const at of [136, 345, 357])
    assert.equal(Number.parseInt(block.toString('latin1', at, at + 11), 8), MAX);
});

test('archives that end early or late', async () => {
  const file = entry(header('f', MAX + 1), 'abc');
  const want = Buffer.concat([entry(header('f', MAX), 'abc'), TAR_END]);
  assert.deepEqual(await clamp(file), want);
  assert.deepEqual(await clamp(file.subarray(0, BLOCK_BYTES + 3)), want, 'without padding');
  assert.deepEqual(await clamp(Buffer.concat([file, TAR_END, Buffer.alloc(8192, 'z')])), want);
  assert.deepEqual(await clamp(Buffer.alloc(0)), TAR_END);
  for (const cut of [100, BLOCK_BYTES + 2])
    await assert.rejects(clamp(file.subarray(0, cut)), /archive\/tar: unexpected EOF/);
  await assert.rejects(clamp(pax({ path: 'x' })), /unexpected EOF/);
  await assert.rejects(clamp(Buffer.alloc(512, 'q')), /archive\/tar: invalid tar header/);
  await assert.rejects(clamp(file, { max: -1 }), /a header cannot hold the time -1/);
});
