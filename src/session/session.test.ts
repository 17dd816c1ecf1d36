import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { BuildError, Code } from '../base/errors.ts';
import { lutimes, mknod } from '../sys/file.ts';
import { lgetxattr, lsetxattr } from '../sys/xattr.ts';
import { sessionAuth } from './caller/auth.ts';
import { openFileSend, sendDirectory } from './caller/filesend.ts';
import { type LocalRequest, receiveLocal } from './caller/filesync.ts';
import { getSecret } from './caller/secrets.ts';
import { pullUpload } from './caller/upload.ts';
import type { ReceiveOptions, TreeChange } from './fsutil/receiver.ts';
import { directorySource } from './fsutil/source.ts';
import { type ExportTarget, fileSendService } from './host/filesend.ts';
import { fileSyncService } from './host/filesync.ts';
import { withSession } from './harness.ts';
import { secretsService } from './host/secrets.ts';
import { Uploads } from './host/upload.ts';
import type { Session } from './manager.ts';

const root = mkdtempSync(join(tmpdir(), 'session-'));
after(() => rmSync(root, { recursive: true }));
let nextDir = 0;
function newDir(): string {
  const dir = join(root, String(nextDir++));
  mkdirSync(dir);
  return dir;
}

function describeTree(dir: string, prefix = ''): string[] {
  return readdirSync(join(dir, prefix))
    .sort()
    .flatMap((name) => {
      const path = prefix === '' ? name : `${prefix}/${name}`;
      const info = lstatSync(join(dir, path), { bigint: true });
      const line = (what: string): string => `${path} ${(info.mode & 0o7777n).toString(8)} ${what}`;
      if (info.isDirectory()) return [line('dir'), ...describeTree(dir, path)];
      if (info.isSymbolicLink()) return [line(`-> ${readlinkSync(join(dir, path))}`)];
      if (!info.isFile()) return [line(`special ${info.rdev}`)];
      const content = createHash('sha256')
        .update(readFileSync(join(dir, path)))
        .digest('hex')
        .slice(0, 12);
      return [line(`${content} ${info.mtimeNs}`)];
    });
}

async function receive(
  from: string,
  dest: string,
  request: Partial<LocalRequest> = {},
  options: ReceiveOptions = {},
): Promise<TreeChange[]> {
  const changes: TreeChange[] = [];
  await withSession([fileSyncService({ ctx: from })], async (session, signal) => {
    const onChange = (change: TreeChange) => changes.push(change);
    await receiveLocal(session, { name: 'ctx', ...request }, dest, { onChange, ...options, signal });
  });
  return changes;
}

function fill(dir: string): void {
  mkdirSync(join(dir, 'a/deep'), { recursive: true });
  mkdirSync(join(dir, 'a-b'));
  writeFileSync(join(dir, 'a/deep/big'), Buffer.alloc(3_000_001, 'xyz'));
  writeFileSync(join(dir, 'a/empty'), '');
  writeFileSync(join(dir, 'a-b/file'), 'text', { mode: 0o600 });
  chmodSync(join(dir, 'a-b'), 0o1777);
  writeFileSync(join(dir, 'suid'), 'x');
  chmodSync(join(dir, 'suid'), 0o4755);
  linkSync(join(dir, 'suid'), join(dir, 'zlink'));
  symlinkSync('a/deep', join(dir, 'sym'));
  symlinkSync('/etc/passwd', join(dir, 'ü abs'));
  mknod(join(dir, 'fifo'), 0o010644);
  lutimes(join(dir, 'sym'), undefined, { sec: 1_500_000_000, nsec: 123_456_789 });
  lutimes(join(dir, 'a-b/file'), undefined, { sec: 1_400_000_000, nsec: 7 });
  lutimes(join(dir, 'a'), undefined, { sec: 1_300_000_000, nsec: 1 });
}

describe('local source transfer', () => {
  test('everything arrives: types, modes, links, nanosecond times, attributes, owner reset', async () => {
    const from = newDir();
    const dest = newDir();
    fill(from);
    let hasXattrs = true;
    try {
      lsetxattr(join(from, 'a-b/file'), 'user.note', Buffer.from('hi'));
    } catch {
      hasXattrs = false;
    }
    const changes = await receive(from, dest, {}, { newHash: () => createHash('sha256') });
    assert.deepEqual(describeTree(dest), describeTree(from));
    assert.equal(statSync(join(dest, 'zlink')).ino, statSync(join(dest, 'suid')).ino);
    assert.equal(lstatSync(join(dest, 'a'), { bigint: true }).mtimeNs, 1_300_000_000_000_000_001n);
    if (hasXattrs) assert.equal(lgetxattr(join(dest, 'a-b/file'), 'user.note')?.toString(), 'hi');
    const big = changes.find((c) => c.path === 'a/deep/big');
    const expected = createHash('sha256')
      .update(readFileSync(join(from, 'a/deep/big')))
      .digest('hex');
    assert.equal(big?.digest, `sha256:${expected}`);
    assert.equal(changes.length, describeTree(from).length);
  });

  test('again: nothing when nothing changed; only differences otherwise; deletions', async () => {
    const from = newDir();
    const dest = newDir();
    fill(from);
    await receive(from, dest);
    assert.deepEqual(await receive(from, dest), []);
    writeFileSync(join(from, 'a/empty'), 'now full');
    rmSync(join(from, 'a-b'), { recursive: true });
    writeFileSync(join(from, 'a-b'), 'a file now');
    rmSync(join(from, 'suid'));
    rmSync(join(from, 'sym'));
    mkdirSync(join(from, 'sym'));
    writeFileSync(join(from, 'sym/inside'), '1');
    rmSync(join(from, 'a/deep'), { recursive: true });
    const changes = await receive(from, dest);
    assert.deepEqual(describeTree(dest), describeTree(from));
    assert.deepEqual(
      changes.map((c) => `${c.kind} ${c.path}`).filter((c) => c.startsWith('delete')),
      ['delete a/deep', 'delete suid'],
    );
    assert.ok(!existsSync('/etc/inside'));
    const all = await receive(from, dest, {}, { differ: 'none' });
    assert.equal(all.filter((c) => c.kind !== 'delete').length, describeTree(from).length);
  });

  test('filters with other than ASCII names, follow paths, many patterns', async () => {
    const from = newDir();
    const dest = newDir();
    fill(from);
    await receive(from, dest, { excludePatterns: ['a', 'fifo', 'ü*'] });
    assert.deepEqual(readdirSync(dest).sort(), ['a-b', 'suid', 'sym', 'zlink']);
    const second = newDir();
    await receive(from, second, { followPaths: ['sym'] });
    assert.deepEqual(
      describeTree(second).map((l) => l.split(' ')[0]),
      ['a', 'a/deep', 'a/deep/big', 'sym'],
    );
    const third = newDir();
    const many = Array.from(
      { length: 5000 },
      (_, i) => `some/longer/path/to/exclude/pattern-${i}/*.generated`,
    );
    await receive(from, third, { excludePatterns: [...many, 'a'] });
    assert.ok(!existsSync(join(third, 'a')) && existsSync(join(third, 'suid')));
  });

  test('metadata only: chosen files and a list of everything', async () => {
    const from = newDir();
    const dest = newDir();
    fill(from);
    await receive(from, dest, {}, { only: (stat) => stat.path === 'a-b/file' });
    assert.deepEqual(readdirSync(dest).sort(), ['.fsutil-metadata', 'a-b']);
    assert.ok(readFileSync(join(dest, '.fsutil-metadata')).includes('a/deep/big'));
  });

  test('clear errors: unknown name, unreadable directory, cancelled', async () => {
    const from = newDir();
    await withSession([fileSyncService({ ctx: from, gone: join(from, 'nope') })], async (session, signal) => {
      await assert.rejects(receiveLocal(session, { name: 'other' }, newDir(), { signal }), {
        code: Code.notFound,
        message: 'no access allowed to dir "other"',
      });
      await assert.rejects(
        receiveLocal(session, { name: 'gone' }, newDir(), { signal }),
        /error from sender: .*nope/,
      );
      const abort = new AbortController();
      abort.abort();
      await assert.rejects(receiveLocal(session, { name: 'ctx' }, newDir(), { signal: abort.signal }));
    });
    await withSession([], async (session, signal) => {
      await assert.rejects(
        receiveLocal(session, { name: 'x' }, newDir(), { signal }),
        /no local sources enabled/,
      );
    });
  });

  test('thousands of small files', async () => {
    const from = newDir();
    const dest = newDir();
    for (let d = 0; d < 20; d++) {
      mkdirSync(join(from, `d${d}`));
      for (let f = 0; f < 100; f++) writeFileSync(join(from, `d${d}/f${f}`), `content ${d} ${f}`);
    }
    await receive(from, dest);
    assert.deepEqual(describeTree(dest), describeTree(from));
  });
});

describe('files back to the client', () => {
  test('a file: metadata, content, skip, failing target', async () => {
    const chunks: Uint8Array[] = [];
    const got: { metadata?: unknown; closed?: boolean } = {};
    let aborted = false;
    const targets = new Map<number, ExportTarget>([
      [
        2,
        {
          kind: 'file',
          open: async (metadata) => {
            got.metadata = metadata;
            return {
              write: async (c) => void chunks.push(Buffer.from(c)),
              close: async () => void (got.closed = true),
              abort: async () => void (aborted = true),
            };
          },
        },
      ],
      [3, { kind: 'file', open: async () => undefined }],
    ]);
    await withSession([fileSendService(targets, { uid: 0, gid: 0 })], async (session, signal) => {
      const big = Buffer.alloc(5_000_000, 'ab');
      const writer = openFileSend(session, {
        exporterId: 2,
        signal,
        metadata: { 'containerimage.digest': 'd' },
      });
      await writer.write(big);
      await writer.write(Buffer.from('end'));
      await writer.close();
      assert.deepEqual(Buffer.concat(chunks), Buffer.concat([big, Buffer.from('end')]));
      assert.deepEqual(got, { metadata: { 'containerimage.digest': 'd' }, closed: true });
      const skipped = openFileSend(session, { exporterId: 3, signal });
      await assert.rejects(
        async () => {
          for (;;) await skipped.write(big);
        },
        { code: Code.alreadyExists, message: 'target already exists' },
      );
      const unknown = openFileSend(session, { exporterId: 9, signal });
      await assert.rejects(unknown.close(), /exporter 9 not found/);
      {
        await using broken = openFileSend(session, { exporterId: 2, signal });
        await broken.write(Buffer.from('x'));
      }
      for (let i = 0; i < 100 && !aborted; i++) await new Promise((r) => setTimeout(r, 10));
      assert.ok(aborted, 'a transfer that was dropped must not look complete');
    });
  });

  test('a directory: merged, or mirrored; owner is the own one', async () => {
    const from = newDir();
    fill(from);
    const merged = newDir();
    const mirrored = newDir();
    for (const dir of [merged, mirrored]) writeFileSync(join(dir, 'mine'), 'kept?');
    symlinkSync('/tmp', join(merged, 'a'));
    const targets = new Map<number, ExportTarget>([
      [0, { kind: 'directory', dir: merged }],
      [1, { kind: 'directory', dir: mirrored, mirror: true }],
    ]);
    await withSession([fileSendService(targets, { uid: 1234, gid: 77 })], async (session, signal) => {
      await sendDirectory(session, directorySource(from), { exporterId: 0, signal });
      // Without the promise that all platforms come in one transfer, nothing may be removed.
      await assert.rejects(
        sendDirectory(session, directorySource(from), { exporterId: 1, signal }),
        /local exporter mode=delete requires a BuildKit daemon with multi-platform local export support/,
      );
      await sendDirectory(session, directorySource(from), { exporterId: 1, mirror: true, signal });
    });
    assert.deepEqual(
      describeTree(merged).filter((l) => !l.startsWith('mine ')),
      describeTree(from),
    );
    assert.ok(existsSync(join(merged, 'mine')) && !existsSync(join(mirrored, 'mine')));
    assert.equal(statSync(join(merged, 'suid')).uid, 1234);
    assert.deepEqual(describeTree(mirrored), describeTree(from));
    utimesSync(merged, 1, 1);
  });
});

describe('secrets, uploads, sessions', () => {
  test('secrets from file, environment and by name', async () => {
    const dir = newDir();
    writeFileSync(join(dir, 's'), 'from file');
    writeFileSync(join(dir, 'huge'), Buffer.alloc(501 << 10));
    const sources = [{ id: 'f', file: join(dir, 's') }, { id: 'e', env: 'VALUE' }, { id: 'NAMED' }];
    const secrets = await secretsService(sources, { VALUE: 'from env', NAMED: 'by name' });
    await withSession([secrets], async (session, signal) => {
      const read = async (id: string) => Buffer.from(await getSecret(session, id, signal)).toString();
      assert.deepEqual(await Promise.all(['f', 'e', 'NAMED'].map(read)), [
        'from file',
        'from env',
        'by name',
      ]);
      await assert.rejects(read('other'), { code: Code.notFound, message: 'secret other: not found' });
      await assert.rejects(sessionAuth(session).credentials('h', signal), { code: Code.unimplemented });
    });
    await assert.rejects(secretsService([{ id: 'h', file: join(dir, 'huge') }], {}), /invalid secret size/);
    await assert.rejects(secretsService([{ id: 'm', file: join(dir, 'missing') }], {}), /no such file/);
  });

  test('an upload is read once', async () => {
    const uploads = new Uploads();
    async function* body(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(2_500_000, 1);
      yield Buffer.from('tail');
    }
    const url = new URL(uploads.add(body()));
    await withSession([uploads.service()], async (session, signal) => {
      let size = 0;
      for await (const chunk of pullUpload(session, url, signal)) size += chunk.byteLength;
      assert.equal(size, 2_500_004);
      await assert.rejects(async () => {
        for await (const _ of pullUpload(session, url, signal));
      }, /no http response/);
    });
  });

  test('groups: the first that works; an ended session fails what runs on it', async () => {
    let ended: Session | undefined;
    await withSession([], async (session, signal, manager) => {
      ended = session;
      assert.equal(session.sharedKey, 'shared');
      assert.ok(session.supports('/GRPC.health.v1.health/check'));
      const work = async (s: Session) => s.id;
      assert.equal(await manager.any([session.id], signal, work), session.id);
      await assert.rejects(manager.any([], signal, work), /no active sessions/);
      const failing = manager.any([session.id], signal, async () => {
        throw new BuildError('own failure');
      });
      await assert.rejects(failing, /own failure/);
      await assert.rejects(manager.get('nobody', AbortSignal.timeout(20)), /no active session for nobody/);
    });
    assert.ok(ended?.signal.aborted);
  });
});
