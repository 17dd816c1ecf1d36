// A store that somebody else, or the disk, has damaged: builds go on, and what they give is right.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { DatabaseSync } from 'node:sqlite';
import { BUILDCTL, Daemon, digest, Registry, run, TempDir } from './harness.ts';
import { eventually } from './state.ts';

let registry: Registry;
const dir = new TempDir();
let context: string;

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  context = dir.write({
    Dockerfile: [
      'FROM busybox AS base',
      'RUN mkdir -p /out && echo one > /out/one',
      'RUN echo two > /out/two && chmod 600 /out/two',
      'COPY file /out/file',
      'FROM scratch',
      'COPY --from=base /out /',
    ].join('\n'),
    file: 'from the context\n',
  });
});

after(async () => {
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

let builds = 0;

/** Builds and looks at every byte of the image: that digests are true, and what is in it. */
async function buildAndCheck(daemon: Daemon, target?: string): Promise<string> {
  const out = dir.join(`out-${builds++}`);
  mkdirSync(out);
  const tar = join(out, 'image.tar');
  const wanted = target === undefined ? [] : ['--opt', `target=${target}`];
  const { stderr } = await daemon.build(context, [...wanted, '--output', `type=oci,dest=${tar}`]);
  execFileSync('tar', ['-xf', tar, '-C', out]);
  const blobs = join(out, 'blobs/sha256');
  for (const name of readdirSync(blobs))
    assert.equal(digest(readFileSync(join(blobs, name))), `sha256:${name}`);
  const read = (named: { digest: string }) =>
    JSON.parse(readFileSync(join(blobs, named.digest.slice(7)), 'utf8'));
  const index = JSON.parse(readFileSync(join(out, 'index.json'), 'utf8'));
  const tree = join(out, 'tree');
  mkdirSync(tree);
  for (const layer of read(index.manifests[0]).layers)
    execFileSync('tar', ['-xf', join(blobs, layer.digest.slice(7)), '-C', tree]);
  const top = target === undefined ? tree : join(tree, 'out');
  assert.equal(readFileSync(join(top, 'one'), 'utf8'), 'one\n');
  assert.equal(readFileSync(join(top, 'two'), 'utf8'), 'two\n');
  assert.equal(readFileSync(join(top, 'file'), 'utf8'), 'from the context\n');
  return stderr;
}

function area(daemon: Daemon, name: string): string {
  return join(daemon.root, 'buildkit-ts', name);
}

function spoilAll(paths: readonly string[]): void {
  assert.ok(paths.length > 0);
  for (const path of paths) {
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 0xff;
    writeFileSync(path, bytes);
  }
}

function blobsOf(daemon: Daemon): string[] {
  const blobs = join(area(daemon, 'content'), 'sha256');
  return readdirSync(blobs).map((name) => join(blobs, name));
}

function snapshotsOf(daemon: Daemon): string[] {
  const snapshots = area(daemon, 'snapshots');
  return readdirSync(snapshots).map((name) => join(snapshots, name));
}

const DAMAGES: Readonly<Record<string, (daemon: Daemon) => void>> = {
  'all blobs have other bytes': (daemon) => spoilAll(blobsOf(daemon)),
  'all blobs are cut short': (daemon) => {
    for (const path of blobsOf(daemon)) writeFileSync(path, 'x');
  },
  'all blobs are gone': (daemon) => {
    for (const path of blobsOf(daemon)) rmSync(path, { force: true });
  },
  'all snapshots are gone': (daemon) => {
    for (const path of snapshotsOf(daemon)) rmSync(path, { recursive: true, force: true });
  },
  'all snapshots are files': (daemon) => {
    for (const path of snapshotsOf(daemon)) {
      rmSync(join(path, 'fs'), { recursive: true });
      writeFileSync(join(path, 'fs'), '');
    }
  },
  'the oldest snapshot is gone': (daemon) => {
    const [first] = snapshotsOf(daemon).sort(
      (a, b) => Number(a.split('/').at(-1)) - Number(b.split('/').at(-1)),
    );
    rmSync(first!, { recursive: true });
  },
  'blobs and snapshots are gone': (daemon) => {
    for (const path of [...blobsOf(daemon), ...snapshotsOf(daemon)])
      rmSync(path, { recursive: true, force: true });
  },
  'indexes of content are damaged': (daemon) => {
    const indexes = area(daemon, 'contenthash');
    spoilAll(readdirSync(indexes).map((name) => join(indexes, name)));
  },
  'indexes of content are directories': (daemon) => {
    const indexes = area(daemon, 'contenthash');
    for (const name of readdirSync(indexes)) {
      rmSync(join(indexes, name));
      mkdirSync(join(indexes, name));
    }
  },
};

function sql(daemon: Daemon, statement: string): void {
  const db = new DatabaseSync(join(daemon.root, 'buildkit-ts/store.db'));
  db.exec(`PRAGMA busy_timeout=5000; ${statement}`);
  db.close();
}

const ROW_DAMAGES: Readonly<Record<string, string>> = {
  'rows of blobs are gone': 'DELETE FROM blobs; DELETE FROM blob_edges',
  'rows of snapshots are gone': 'DELETE FROM snapshots',
  'rows of some snapshots are gone': 'DELETE FROM snapshots WHERE parent IS NULL',
  'rows of records are gone': 'DELETE FROM records; DELETE FROM record_values',
  'rows of some records are gone': 'DELETE FROM records WHERE parent IS NULL',
  'rows of leases are gone': 'DELETE FROM leases; DELETE FROM lease_resources',
  'records make no sense': "UPDATE records SET annotations = 'x'",
};

const ALL = { ...DAMAGES, ...ROW_DAMAGES };
/** What a daemon that starts with it finds out in another way than one that runs. */
const BETWEEN_RUNS = [
  'all blobs have other bytes',
  'blobs and snapshots are gone',
  'rows of leases are gone',
];

for (const running of [true, false])
  test(`damage ${running ? 'under a running daemon' : 'between two runs'} makes no build fail`, async () => {
    using root = new TempDir();
    let daemon = await Daemon.start({ root: root.path, config: registry.config });
    try {
      await buildAndCheck(daemon);
      await buildAndCheck(daemon, 'base');
      for (const [name, damage] of Object.entries(ALL)) {
        if (!running && !BETWEEN_RUNS.includes(name)) continue;
        if (!running) assert.equal(await daemon.stop(), 0);
        if (typeof damage === 'string') sql(daemon, damage);
        else damage(daemon);
        if (!running) daemon = await Daemon.start({ root: root.path, config: registry.config });
        await buildAndCheck(daemon, 'base').catch((error) => {
          throw new Error(`${name}: ${error.message}\n${daemon.log()}`, { cause: error });
        });
        // What was found wrong is mended: now all is cached again.
        assert.match(await buildAndCheck(daemon, 'base'), /#\d+ \[base 2\/4\] RUN[^\n]*\n#\d+ CACHED/, name);
      }
      await buildAndCheck(daemon);
      assert.doesNotMatch(daemon.log(), /level=error/);
    } finally {
      await daemon[Symbol.asyncDispose]();
    }
  });

test('debug fsck finds and repairs, through the daemon and without one', async () => {
  using root = new TempDir();
  const daemon = await Daemon.start({ root: root.path, config: registry.config });
  try {
    await buildAndCheck(daemon, 'base');
    const clean = await daemon.buildctl(['debug', 'fsck', '--deep']);
    assert.equal(clean.code, 0, clean.stdout.toString() + clean.stderr);
    assert.match(clean.stdout.toString(), /^checked \d+ records, .* \d+ blobs: nothing is wrong\n$/);
    spoilAll(blobsOf(daemon));
    const [first] = snapshotsOf(daemon).sort();
    rmSync(first!, { recursive: true });
    const found = await daemon.buildctl(['debug', 'fsck', '--deep']);
    assert.equal(found.code, 1);
    assert.match(found.stdout.toString(), /^damaged blob sha256:\w+: its bytes are those of sha256:\w+$/m);
    assert.match(found.stdout.toString(), /damaged, \d+ left over, 0 repaired \(--repair mends them\)\n$/);
    const json = await daemon.buildctl(['debug', 'fsck', '--deep', '--format', '{{json .}}']);
    assert.equal(json.code, 1);
    const { findings, counts } = JSON.parse(json.stdout.toString());
    assert.ok(counts.blobs > 0 && findings.length > 0);
    assert.equal(findings[0].repaired, false);
    // Nobody else may use the state directory meanwhile.
    const locked = await daemon.buildctl(['debug', 'fsck', '--root', root.path]);
    assert.equal(locked.code, 1);
    assert.match(locked.stderr, /is in use by buildkitd with process id \d+/);
    writeFileSync(join(root.path, 'buildkit-ts/explain/x'), '');
    const leftover = await daemon.buildctl(['debug', 'fsck']);
    assert.match(leftover.stdout.toString(), /^leftover file explain\/x: nothing knows it$/m);
    assert.equal(await daemon.stop(), 0);
    const repaired = await daemon.buildctl(['debug', 'fsck', '--deep', '--repair', '--root', root.path]);
    assert.equal(repaired.code, 0, repaired.stdout.toString() + repaired.stderr);
    assert.match(repaired.stdout.toString(), /: repaired$/m);
    assert.match(repaired.stdout.toString(), /^damaged build \w+: its log sha256:\w+ is gone: repaired$/m);
    const again = await daemon.buildctl(['debug', 'fsck', '--deep', '--root', root.path]);
    assert.match(again.stdout.toString(), /nothing is wrong\n$/);
    const gone = await daemon.buildctl(['debug', 'fsck']);
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /give the state directory with --root/);
  } finally {
    await daemon[Symbol.asyncDispose]();
  }
});

test('a database with damaged pages is put aside, and what can be read of it is kept', async () => {
  using root = new TempDir();
  let daemon = await Daemon.start({ root: root.path, config: registry.config });
  const path = join(root.path, 'buildkit-ts/store.db');
  const spoilPages = (offset: number): void => {
    const bytes = readFileSync(path);
    for (let at = offset; at < bytes.length; at += 3 * 4096) bytes.fill(0x5a, at, at + 2048);
    writeFileSync(path, bytes);
  };
  try {
    for (const offset of [8 * 4096, 0]) {
      await buildAndCheck(daemon, 'base');
      assert.equal(await daemon.stop(), 0);
      spoilPages(offset);
      daemon = await Daemon.start({ root: root.path, config: registry.config });
      await buildAndCheck(daemon, 'base');
      assert.match(daemon.log(), /the database was damaged: it is put aside/);
      assert.ok(readFileSync(`${path}.damaged`).length > 0);
      await eventually(() => assert.match(daemon.log(), /the store was checked and repaired/));
      const { code, stdout } = await daemon.buildctl(['debug', 'fsck', '--deep']);
      assert.equal(code, 0, stdout.toString() + daemon.log());
    }
  } finally {
    await daemon[Symbol.asyncDispose]();
  }
});

test('debug fsck against a daemon that has no such check', async () => {
  const { createGrpcServer } = await import('../../src/rpc/server.ts');
  const { listenGrpc } = await import('../../src/rpc/listen.ts');
  const { healthService } = await import('../../src/rpc/health.ts');
  const server = createGrpcServer({ services: [healthService([''])] });
  const path = dir.join('other.sock');
  const listener = await listenGrpc(server, { kind: 'unix', path });
  const { code, stderr } = await run(BUILDCTL, ['--addr', `unix://${path}`, 'debug', 'fsck']);
  assert.equal(code, 1);
  assert.match(stderr, /the daemon at unix:\S+ cannot check its store/);
  assert.match(stderr, /debug fsck is for daemons of buildkit-ts/);
  await listener.close();
  await server.close({ graceMs: 0 });
});

test('a tree that is lost in the middle of a build is made again by the same build', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  const lines = [
    'FROM busybox AS slow',
    'ARG N',
    'RUN echo begun; sleep 3; echo $N > /n',
    'FROM busybox AS other',
    'RUN mkdir /other && echo other > /other/file',
    'FROM other',
    'COPY --from=slow /n /other/n',
  ];
  dir.write({ 'middle/Dockerfile': lines.join('\n') });
  const out = dir.join('middle-out');
  const args = (n: number): string[] => ['--opt', `build-arg:N=${n}`, '--output', `type=local,dest=${out}`];
  await daemon.build(dir.join('middle'), args(1));
  let lost = 0;
  const lose = (): void => {
    const db = new DatabaseSync(join(daemon.root, 'buildkit-ts/store.db'), { readOnly: true });
    const rows = db
      .prepare(
        'SELECT s.id FROM snapshots s JOIN records r ON r.snapshot = s.name WHERE r.description LIKE ?',
      )
      .all('%mkdir /other%') as { id: number }[];
    db.close();
    for (const { id } of rows) rmSync(join(area(daemon, 'snapshots'), String(id)), { recursive: true });
    lost += rows.length;
  };
  const { stderr } = await daemon.build(dir.join('middle'), args(2), {
    // The other stage is loaded from the cache by then.
    onStderr: (text) => void (/ begun/.test(text) && setTimeout(lose, 1000)),
  });
  assert.equal(lost, 1);
  assert.equal(readFileSync(join(out, 'other/file'), 'utf8'), 'other\n');
  assert.equal(readFileSync(join(out, 'other/n'), 'utf8'), '2\n');
  assert.match(daemon.log(), /dropping a record: snapshot \w+ is lost/);
  assert.match(stderr, /RUN mkdir \/other/);
});
