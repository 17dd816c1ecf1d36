import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Digest, digestOf } from '../../base/digest.ts';
import { BuildError } from '../../base/errors.ts';
import { silentLogger } from '../../base/log.ts';
import type { Finding } from '../../fsck/finding.ts';
import { BuildHistoryRequest, type BuildHistoryRecord } from '../../pb/control.ts';
import { JobProgress, VertexReporter } from '../../solver/progress.ts';
import { temporaryStore } from '../../testing/store.ts';
import { History } from './history.ts';

const never = new AbortController().signal;
const INDEX = 'application/vnd.oci.image.index.v1+json';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

type Held = Awaited<ReturnType<typeof temporaryStore>>;

interface Case {
  readonly held: Held;
  readonly history: History;
  /** Of the build `one`, with its trace. */
  readonly record: BuildHistoryRecord;
  /** A document that the result of `one` leads to. */
  readonly manifest: Digest;
  readonly dir: string;
  sql(statement: string): void;
  lose(digest: string | undefined): void;
}

async function build(history: History, held: Held, ref: string): Promise<Digest> {
  const progress = new JobProgress();
  const recording = history.recording({ ref, frontend: 'f', frontendAttrs: {}, exporters: [] });
  recording.start(progress);
  const step = new VertexReporter(digestOf(ref), `step of ${ref}`, []);
  step.join(progress);
  step.start();
  step.log(1, Buffer.from(ref));
  step.complete();
  const { content, leases } = held.store;
  using lease = leases.hold();
  const put = async (value: unknown) => {
    const data = Buffer.from(JSON.stringify(value));
    return { digest: digestOf(data), size: (await content.writeBlob(data, { lease: lease.id })).size };
  };
  const config = await put({ ref });
  const image = {
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: { mediaType: 'x/config', ...config },
    layers: [],
  };
  const manifest = await put(image);
  const index = await put({
    schemaVersion: 2,
    mediaType: INDEX,
    manifests: [{ mediaType: MANIFEST, ...manifest }],
  });
  await recording.image(0, { mediaType: INDEX, ...index });
  await recording.attach(async () => Buffer.from(`provenance of ${ref}`), {
    mediaType: 'x/y',
    annotations: {},
  });
  const about = { mediaType: 'x/y', annotations: {}, key: 'linux/amd64' };
  await recording.attach(async () => Buffer.from(`more of ${ref}`), about);
  progress.close();
  await recording.finish(new BuildError(`it broke: ${ref}`));
  await history.finalize(ref, never);
  return manifest.digest;
}

async function list(history: History): Promise<BuildHistoryRecord[]> {
  const events = await Array.fromAsync(
    history.listen(BuildHistoryRequest.create({ EarlyExit: true }), never),
  );
  return events.map(({ record }) => record!);
}

async function fill(held: Held): Promise<Case & AsyncDisposable> {
  const { store } = held;
  const { db, content, leases } = store;
  const dir = join(store.layout.dir, 'history');
  const log = silentLogger;
  const collect = (): Promise<unknown> => store.gc();
  const history = new History({
    db,
    content,
    leases,
    collect,
    log,
    dir,
    maxAgeMs: 1e9,
    maxEntries: 9,
    retryMs: 50,
  });
  const manifest = await build(history, held, 'one');
  await build(history, held, 'two');
  await store.gc();
  const record = (await list(history)).find(({ Ref }) => Ref === 'one')!;
  return {
    held,
    history,
    record,
    manifest,
    dir,
    sql: (text) => void db.run(text),
    lose: (digest) => void db.run('DELETE FROM blobs WHERE digest = ?', digest ?? ''),
    [Symbol.asyncDispose]: () => history[Symbol.asyncDispose](),
  };
}

const check = ({ held, history }: Case): Promise<Finding[]> =>
  Array.fromAsync(history.check({ deep: true, signal: never }, (path) => held.store.discard(path)));

const line = ({ leftover, kind, id, problem }: Finding): string =>
  `${leftover ? 'leftover' : 'damaged'} ${kind} ${id}: ${problem}`;

/** What is done to the records, and all that the check says of it. */
const DAMAGES: Readonly<Record<string, readonly [(c: Case) => void, ...RegExp[]]>> = {
  'a log that is lost': [
    ({ lose, record }) => lose(record.logs?.digest),
    /^damaged build one: its log sha256:\w+ is gone$/,
  ],
  'a trace that is lost': [
    ({ lose, record }) => lose(record.trace?.digest),
    /^damaged build one: its trace sha256:\w+ is gone$/,
  ],
  'an error that is lost': [
    ({ lose, record }) => lose(record.externalError?.digest),
    /^damaged build one: its error sha256:\w+ is gone$/,
  ],
  'an attestation that is lost': [
    ({ lose, record }) => lose(record.Result?.Attestations[0]?.digest),
    /^damaged build one: its attachment sha256:\w+ is gone$/,
  ],
  'an attestation of one platform that is lost': [
    ({ lose, record }) => lose(record.Results['linux/amd64']?.Attestations[0]?.digest),
    /^damaged build one: its attachment sha256:\w+ is gone$/,
  ],
  'a result that is lost': [
    ({ lose, record }) => lose(record.Result?.ResultDeprecated?.digest),
    /^damaged build one: its result sha256:\w+ is gone$/,
  ],
  'a document of a result that is lost': [
    ({ lose, manifest }) => lose(manifest),
    /^damaged build one: a document of its result, sha256:\w+, is gone$/,
  ],
  'a lease that is lost': [
    ({ sql }) => sql("DELETE FROM leases WHERE id = 'history_one'"),
    /^damaged build one: no lease keeps what it needs$/,
  ],
  'a lease that holds too little': [
    ({ held, record }) =>
      held.store.leases.drop('history_one', { kind: 'content', id: record.logs!.digest as Digest }),
    /^damaged build one: its lease does not keep its log sha256:\w+$/,
  ],
  'a row that makes no sense': [
    ({ sql }) => sql("UPDATE build_records SET record = x'ffffff' WHERE ref = 'one'"),
    /^damaged build one: it is unreadable$/,
  ],
  'a row of another build': [
    ({ sql }) => sql("UPDATE build_records SET ref = 'other' WHERE ref = 'one'"),
    /^damaged build other: it is unreadable$/,
    /^leftover lease history_one: its build record one is gone$/,
  ],
  'a row that was never closed': [
    ({ sql }) => sql("UPDATE build_records SET completed_at = NULL WHERE ref = 'one'"),
    /^damaged build one: it was never closed$/,
  ],
  'a lease without a row': [
    ({ held }) => held.store.leases.create({ id: 'history_gone', flat: true }),
    /^leftover lease history_gone: its build record gone is gone$/,
  ],
  'a log of no build': [
    ({ dir }) => writeFileSync(join(dir, 'x.log'), 'x'),
    /^leftover file history\/x\.log: nothing knows it$/,
  ],
};

test('records that nothing has happened to, of builds that run, too', async () => {
  await using held = await temporaryStore();
  await using made = await fill(held);
  const progress = new JobProgress();
  const recording = made.history.recording({ ref: 'runs', frontend: 'f', frontendAttrs: {}, exporters: [] });
  recording.start(progress);
  assert.deepEqual((await check(made)).map(line), []);
  progress.close();
  await recording.finish();
  assert.equal((await list(made.history)).length, 3);
});

for (const [name, [damage, ...expected]] of Object.entries(DAMAGES))
  test(`found and repaired: ${name}`, async () => {
    await using held = await temporaryStore();
    await using made = await fill(held);
    damage(made);
    const found = await check(made);
    assert.equal(found.length, expected.length, found.map(line).join('\n'));
    for (const [i, pattern] of expected.entries()) assert.match(line(found[i]!), pattern);
    // Looking changes nothing.
    assert.deepEqual((await check(made)).map(line), found.map(line));
    for (const { repair } of found) await repair();
    assert.deepEqual((await check(made)).map(line), []);
    await held.store.gc();
    assert.deepEqual((await check(made)).map(line), [], 'what is left is kept');
    const left = await list(made.history);
    assert.ok(left.some(({ Ref, logs }) => Ref === 'two' && logs !== undefined));
    for (const { Ref } of left) await Array.fromAsync(made.history.log(Ref, never) ?? []);
    assert.ok(!existsSync(join(made.dir, 'x.log')));
  });

test('a row that makes no sense does not hide the other builds', async () => {
  await using held = await temporaryStore();
  await using made = await fill(held);
  made.sql("UPDATE build_records SET record = x'ffffff' WHERE ref = 'one'");
  assert.deepEqual(
    (await list(made.history)).map(({ Ref }) => Ref),
    ['two'],
  );
  assert.deepEqual(readdirSync(made.dir), []);
});

test('a record that cannot be written at first is written later, and no damage meanwhile', async () => {
  await using held = await temporaryStore();
  await using made = await fill(held);
  made.sql(`CREATE TRIGGER full BEFORE INSERT ON build_records WHEN NEW.completed_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END`);
  await build(made.history, held, 'late');
  assert.deepEqual((await check(made)).map(line), []);
  assert.equal((await list(made.history)).length, 2);
  await sleep(120);
  made.sql('DROP TRIGGER full');
  for (let i = 0; i < 100 && (await list(made.history)).length < 3; i++) await sleep(20);
  const late = (await list(made.history)).find(({ Ref }) => Ref === 'late');
  assert.equal(late?.error?.message, 'it broke: late');
  assert.deepEqual((await check(made)).map(line), []);
});
