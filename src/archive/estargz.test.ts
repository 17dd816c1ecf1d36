import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import type { JobContext } from '../pool/types.ts';
import { readLayer } from './compression.ts';
import { type BlobResult, writeBlob } from './diff.ts';
import { encodeFooter, FOOTER_BYTES, parseFooter } from '../oci/estargz.ts';
import { findToc } from './estargz-footer.ts';
import { convertBlob } from './pack.ts';
import { type TarHeader, TarType } from './tar-header.ts';
import { readTarEntries } from './tar-reader.ts';
import { encodeTarHeader, padding, TAR_END } from './tar-writer.ts';

const dir = mkdtempSync(join(tmpdir(), 'estargz-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const CONTEXT = { throwIfAborted: () => {} } as JobContext;
const CHUNK = 4 << 20;
const EMPTY = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
let files = 0;

interface Entry extends Partial<TarHeader> {
  readonly name: string;
  readonly data?: Buffer;
}

function archive(entries: readonly Entry[], end: Uint8Array = TAR_END): Buffer {
  const parts = entries.flatMap(({ data = Buffer.alloc(0), ...more }) => {
    const header: TarHeader = {
      ...{ type: TarType.file, mode: 0o644, uid: 0, gid: 0, size: data.length, linkname: '' },
      ...{ mtime: { sec: 1_700_000_000, nsec: 0 }, devMajor: 0, devMinor: 0 },
      ...more,
    };
    return [encodeTarHeader(header), data, Buffer.alloc(padding(data.length))];
  });
  return Buffer.concat([...parts, end]);
}

/** The blob of an archive that comes in pieces of `step` bytes. */
async function pack(tar: Buffer, step = 256 << 10, level?: number): Promise<BlobResult & { path: string }> {
  const path = join(dir, `blob${files++}`);
  const pieces = Array.from({ length: Math.ceil(tar.length / step) }, (_, i) =>
    tar.subarray(i * step, (i + 1) * step),
  );
  const target = { compression: 'estargz', blob: path, ...(level === undefined ? {} : { level }) } as const;
  return { path, ...(await writeBlob(pieces, target, CONTEXT)) };
}

async function unpacked(path: string): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of readLayer(path)) pieces.push(piece);
  return Buffer.concat(pieces);
}

interface Row {
  readonly name: string;
  readonly type: string;
  readonly offset?: number;
  readonly chunkSize?: number;
  readonly chunkOffset?: number;
  readonly [field: string]: unknown;
}

/** The table of contents, as a reader finds it: by the footer alone. */
function tableOf(blob: Buffer): { readonly text: Buffer; readonly rows: readonly Row[] } {
  const offset = Number.parseInt(blob.toString('latin1', blob.length - 35, blob.length - 19), 16);
  const entries = readTarEntries(gunzipSync(blob.subarray(offset)), 64 << 20);
  assert.deepEqual(
    entries.map(({ header }) => header.name),
    ['stargz.index.json'],
  );
  const text = entries[0]!.data;
  const { version, entries: rows } = JSON.parse(text.toString());
  assert.equal(version, 1);
  return { text, rows };
}

const sha256 = (data: Uint8Array): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

function noise(bytes: number): Buffer {
  const out = Buffer.alloc(bytes);
  for (let i = 0, x = 7; i < bytes; i++) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    out[i] = x >>> 24;
  }
  return out;
}

const LARGE = noise(2 * CHUNK + 5);
const EXACT = Buffer.alloc(CHUNK, 'x');
const ALL: readonly Entry[] = [
  { name: 'd/', type: TarType.dir, mode: 0o755, mtime: { sec: 0, nsec: 0 } },
  { name: 'd/small', data: Buffer.from('hello'), uid: 12, gid: 34, uname: 'me', gname: 'us', mode: 0o4755 },
  { name: 'd/empty', uid: 12, gid: 35, uname: 'me', gname: 'us' },
  { name: 'd/hard', type: TarType.link, linkname: 'd/small' },
  { name: 'd/soft', type: TarType.symlink, linkname: '../<&>é', mode: 0o777 },
  { name: 'd/tty', type: TarType.char, devMajor: 5, devMinor: 7 },
  { name: 'd/disk', type: TarType.block, devMajor: 8, devMinor: 0 },
  { name: 'd/pipe', type: TarType.fifo },
  {
    name: 'large',
    data: LARGE,
    xattrs: new Map([
      ['user.b', Buffer.from([0, 255])],
      ['user.a', Buffer.from('1')],
    ]),
  },
  { name: 'exact', data: EXACT },
];

test('the table tells of every entry what the format asks for', async () => {
  const blob = await pack(archive(ALL));
  const { text, rows } = tableOf(readFileSync(blob.path));
  assert.equal(blob.tocDigest, sha256(text));
  const modtime = '2023-11-14T22:13:20Z';
  const hello = sha256(Buffer.from('hello'));
  const pieces = [0, CHUNK, 2 * CHUNK].map((at) => sha256(LARGE.subarray(at, at + CHUNK)));
  const [small, ...chunks] = rows.filter(({ offset }) => offset !== undefined).map(({ offset }) => offset!);
  assert.deepEqual(rows, [
    { name: 'd/', type: 'dir', mode: 0o755 },
    {
      ...{ name: 'd/small', type: 'reg', size: 5, modtime, mode: 0o4755, uid: 12, gid: 34 },
      ...{ userName: 'me', groupName: 'us', offset: small, digest: hello, chunkDigest: hello },
    },
    // The user's name was told, that of the group is another's.
    { name: 'd/empty', type: 'reg', modtime, mode: 0o644, uid: 12, gid: 35, groupName: 'us', digest: EMPTY },
    { name: 'd/hard', type: 'hardlink', modtime, linkName: 'd/small', mode: 0o644 },
    { name: 'd/soft', type: 'symlink', modtime, linkName: '../<&>é', mode: 0o777 },
    { name: 'd/tty', type: 'char', modtime, mode: 0o644, devMajor: 5, devMinor: 7 },
    { name: 'd/disk', type: 'block', modtime, mode: 0o644, devMajor: 8 },
    { name: 'd/pipe', type: 'fifo', modtime, mode: 0o644 },
    {
      ...{ name: 'large', type: 'reg', size: LARGE.length, modtime, mode: 0o644, offset: chunks[0] },
      xattrs: { 'user.a': 'MQ==', 'user.b': 'AP8=' },
      ...{ digest: sha256(LARGE), chunkSize: CHUNK, chunkDigest: pieces[0] },
    },
    {
      ...{ name: 'large', type: 'chunk', offset: chunks[1], chunkOffset: CHUNK },
      ...{ chunkSize: CHUNK, chunkDigest: pieces[1] },
    },
    { name: 'large', type: 'chunk', offset: chunks[2], chunkOffset: 2 * CHUNK, chunkDigest: pieces[2] },
    {
      ...{ name: 'exact', type: 'reg', size: CHUNK, modtime, mode: 0o644, offset: chunks[3] },
      ...{ digest: sha256(EXACT), chunkSize: CHUNK, chunkDigest: sha256(EXACT) },
    },
  ]);
});

test('each piece of a file is read from its offset on', async () => {
  const { path } = await pack(archive(ALL));
  const blob = readFileSync(path);
  const contents = new Map(ALL.map(({ name, data }) => [name, data]));
  let read = 0;
  for (const { name, offset, chunkOffset = 0, chunkSize = CHUNK } of tableOf(blob).rows) {
    if (offset === undefined) continue;
    const wanted = contents.get(name)!.subarray(chunkOffset, chunkOffset + chunkSize);
    const found = gunzipSync(blob.subarray(offset));
    assert.ok(found.subarray(0, wanted.length).equals(wanted), `${name} ${chunkOffset}`);
    read++;
  }
  assert.equal(read, 5);
});

test('the archive comes back as it was, and gzip unpacks it with the table behind it', async () => {
  const cases = [archive(ALL), archive([]), archive([{ name: 'x', data: noise(700) }], Buffer.alloc(0))];
  cases.push(Buffer.concat([archive([{ name: 'x' }]), Buffer.alloc(20 * 512), Buffer.from('rest')]));
  for (const tar of [...cases, Buffer.alloc(0)]) {
    const blob = await pack(tar);
    assert.ok((await unpacked(blob.path)).equals(tar), `${tar.length} bytes`);
    assert.equal(blob.archiveDigest, sha256(tar));
    const { status, stdout } = spawnSync('gzip', ['-dc', blob.path], { maxBuffer: 1 << 28 });
    assert.equal(status, 0);
    assert.ok(stdout.subarray(0, tar.length).equals(tar));
    assert.equal(blob.diffId, sha256(stdout));
    assert.equal(blob.archiveSize, stdout.length);
    const bytes = readFileSync(blob.path);
    assert.equal(blob.digest, sha256(bytes));
    const back = join(dir, `back${files++}`);
    const plain = await convertBlob({ source: blob.path, compression: 'uncompressed', blob: back }, CONTEXT);
    assert.equal(plain.diffId, sha256(tar));
    // Packed again, it is the same blob.
    const again = join(dir, `again${files++}`);
    const twice = await convertBlob({ source: blob.path, compression: 'estargz', blob: again }, CONTEXT);
    assert.equal(twice.digest, blob.digest);
  }
});

test('the bytes depend on the archive and the level only', async () => {
  const tar = archive([
    ...ALL,
    ...Array.from({ length: 3000 }, (_, i) => ({ name: `n${i}`, data: noise(i % 70) })),
  ]);
  const first = await pack(tar);
  for (const step of [511, 1 << 20, tar.length]) assert.equal((await pack(tar, step)).digest, first.digest);
  assert.notEqual((await pack(tar, tar.length, 9)).digest, first.digest);
  assert.equal((await pack(tar, tar.length, 0)).archiveDigest, first.archiveDigest);
  await assert.rejects(pack(tar, tar.length, 10), /invalid compression level 10 for estargz/);
});

test('a long run of headers is cut, so that it is never in memory as a whole', async () => {
  const links = Array.from({ length: 20_000 }, (_, i) => ({
    name: `l${i}`,
    type: TarType.symlink,
    linkname: 'x',
  }));
  const tar = archive([...links, { name: 'last', data: Buffer.from('data') }]);
  const { path } = await pack(tar);
  const blob = readFileSync(path);
  const { rows } = tableOf(blob);
  assert.equal(rows.length, 20_001);
  assert.equal(gunzipSync(blob.subarray(rows.at(-1)!.offset)).toString('latin1', 0, 4), 'data');
  assert.ok((await unpacked(path)).equals(tar));
});

test('what cannot be packed is refused', async () => {
  const refused: [Buffer, RegExp][] = [
    [
      archive([{ name: './stargz.index.json', data: Buffer.from('{}') }]),
      /stargz\.index\.json cannot be packed/,
    ],
    [archive([{ name: 'odd', type: '7' }]), /"odd" has type "7"/],
    [archive([{ name: 'cut', data: noise(2000) }]).subarray(0, 1500), /unexpected EOF/],
    [Buffer.alloc(512, 'x'), /invalid tar header/],
  ];
  for (const [tar, problem] of refused) {
    await assert.rejects(pack(tar), problem);
    assert.throws(() => readFileSync(join(dir, `blob${files - 1}`)), /ENOENT/);
  }
});

test('times are told in whole seconds, and those that the text cannot hold are left out', async () => {
  const header = (name: string, mtime: string): Buffer => {
    const record = `${11 + mtime.length - 1} mtime=${mtime}\n`;
    const text = record.length === 11 + mtime.length - 1 ? record : `${record.length} mtime=${mtime}\n`;
    const pax = encodeTarHeader({ ...plainHeader('pax'), type: 'x', size: text.length });
    return Buffer.concat([
      pax,
      Buffer.from(text),
      Buffer.alloc(padding(text.length)),
      encodeTarHeader(plainHeader(name)),
    ]);
  };
  const tar = Buffer.concat([
    header('up', '99.5'),
    header('zero', '0.9'),
    header('far', '999999999999'),
    TAR_END,
  ]);
  const { path } = await pack(tar);
  assert.deepEqual(
    tableOf(readFileSync(path)).rows.map(({ name, modtime }) => [name, modtime]),
    [
      ['up', '1970-01-01T00:01:40Z'],
      ['zero', undefined],
      ['far', undefined],
    ],
  );
});

function plainHeader(name: string): TarHeader {
  const numbers = { mode: 0o644, uid: 0, gid: 0, size: 0, devMajor: 0, devMinor: 0 };
  return { ...numbers, name, type: TarType.file, mtime: { sec: 0, nsec: 0 }, linkname: '' };
}

test('the footer holds the offset in a header field, and is an empty gzip member', () => {
  const footer = encodeFooter(0xabcdef);
  assert.equal(
    footer.toString('hex'),
    `1f8b08040000000000ff1a0053471600${Buffer.from('0000000000abcdefSTARGZ').toString('hex')}010000ffff${'00'.repeat(8)}`,
  );
  assert.equal(footer.length, FOOTER_BYTES);
  assert.equal(gunzipSync(footer).length, 0);
  assert.equal(parseFooter(footer), 0xabcdef);
  assert.equal(parseFooter(Buffer.concat([noise(100), footer])), 0xabcdef);
  // The older form, without a name of the field.
  const old = Buffer.concat([footer.subarray(0, 10), Buffer.from([22, 0]), footer.subarray(16)]);
  assert.equal(parseFooter(old), 0xabcdef);
  for (let i = 0; i < footer.length; i++) assert.equal(parseFooter(footer.subarray(i + 1)), undefined);
  for (const i of [0, 1, 2, 3, 10, 11, 12, 14, 16, 37]) {
    const forged = Buffer.from(footer);
    forged[i] = 0x7e;
    assert.equal(parseFooter(forged), undefined, `byte ${i}`);
  }
  const beyond = Buffer.from(footer);
  beyond.write('ffffffffffffffff', 16);
  assert.equal(parseFooter(beyond), undefined);
});

test('a blob that only looks like estargz is read as what it is, or refused; nothing crashes', async () => {
  const { path } = await pack(archive(ALL));
  const blob = readFileSync(path);
  const end = findToc(path)!;
  const body = blob.subarray(0, blob.length - FOOTER_BYTES);
  const forged = join(dir, 'forged');
  const toc = (bytes: Buffer): number | undefined => {
    writeFileSync(forged, bytes);
    return findToc(forged);
  };
  assert.equal(toc(blob), end);
  for (const offset of [0, 1, end - 1, end + 1, body.length, blob.length, blob.length + 9, 2 ** 52])
    assert.equal(toc(Buffer.concat([body, encodeFooter(offset)])), undefined, `${offset}`);
  for (const length of [0, 1, 50, 51, 52, end, end + 60, body.length, blob.length - 1])
    assert.equal(toc(blob.subarray(0, length)), undefined, `${length} bytes`);
  // A table of which the end is missing is found, and cut off.
  toc(Buffer.concat([blob.subarray(0, end + 200), encodeFooter(end)]));
  assert.ok((await unpacked(forged)).equals(archive(ALL)));
  // A body that was cut is an error, not less.
  const half = Buffer.concat([blob.subarray(0, 1000), blob.subarray(end, body.length), encodeFooter(1000)]);
  assert.equal(toc(half), 1000);
  await assert.rejects(unpacked(forged), /unexpected end of file/);
});
