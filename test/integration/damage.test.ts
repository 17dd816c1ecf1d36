// A store that somebody else, or the disk, has damaged: builds go on, and what they give is right.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { DatabaseSync } from 'node:sqlite';
import { Daemon, digest, Registry, TempDir } from './harness.ts';

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
