import assert from 'node:assert/strict';
import { appendFileSync, readdirSync, statSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Digest, digestOf } from '../../base/digest.ts';
import { BuildError, canceled } from '../../base/errors.ts';
import { createLogger, silentLogger } from '../../base/log.ts';
import { type BuildHistoryEvent, BuildHistoryRequest, type StatusResponse } from '../../pb/control.ts';
import { Status } from '../../pb/rpcstatus.ts';
import { JobProgress, VertexReporter } from '../../solver/progress.ts';
import type { Store } from '../../store/store.ts';
import { openTestStore, temporaryRoot, temporaryStore } from '../../testing/store.ts';
import { History, type HistoryOptions } from './history.ts';
import type { Recording } from './recording.ts';

const never = new AbortController().signal;
const HOUR_MS = 3_600_000;

function open(store: Store, more: Partial<HistoryOptions> = {}): History {
  const { db, content, leases } = store;
  const dir = join(store.layout.dir, 'history');
  const limits = { maxAgeMs: 48 * HOUR_MS, maxEntries: 50 };
  return new History({
    db,
    content,
    leases,
    collect: () => store.gc(),
    log: silentLogger,
    dir,
    ...limits,
    ...more,
  });
}

const request = (ref: string) => ({ ref, frontend: 'f', frontendAttrs: { a: 'b' }, exporters: [] });

/** A build that says `text`, in one step. */
async function build(history: History, ref: string, text = ref, error?: unknown): Promise<void> {
  const progress = new JobProgress();
  const recording = history.recording(request(ref));
  recording.start(progress);
  const step = new VertexReporter(digestOf(ref), `step of ${ref}`, []);
  step.join(progress);
  step.start();
  step.log(1, Buffer.from(text));
  step.complete();
  progress.close();
  await recording.finish(error);
}

async function list(history: History, more: Partial<BuildHistoryRequest> = {}): Promise<BuildHistoryEvent[]> {
  return Array.fromAsync(
    history.listen({ ...BuildHistoryRequest.create({ EarlyExit: true }), ...more }, never),
  );
}

const refs = async (history: History, more: Partial<BuildHistoryRequest> = {}): Promise<string[]> =>
  (await list(history, more)).map(({ record }) => record?.Ref ?? '');

async function logText(history: History, ref: string): Promise<string> {
  const responses: StatusResponse[] = await Array.fromAsync(history.log(ref, never) ?? []);
  return responses.flatMap(({ logs }) => logs.map(({ msg }) => Buffer.from(msg).toString())).join('');
}

test('the record of a build: steps, log, error with its details in a blob', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  await build(history, 'good');
  await build(
    history,
    'bad',
    'oh',
    new BuildError('it broke', { details: [{ type: 'x.Y', value: { z: 1 } }] }),
  );
  const [good, bad] = (await list(history)).map(({ record }) => record!);
  assert.equal(good?.numTotalSteps, 1);
  assert.equal(good?.numCompletedSteps, 1);
  assert.deepEqual(good?.FrontendAttrs, { a: 'b' });
  assert.equal(good?.error, undefined);
  assert.equal(await logText(history, 'good'), 'good');
  assert.deepEqual(bad?.error, { code: 2, message: 'it broke', details: [] });
  const blob = await fixture.content.readAll(bad?.externalError?.digest as Digest);
  const types = Status.decode(blob).details.map(({ typeUrl }) => typeUrl.replace(/^.*\//, ''));
  assert.deepEqual(types, ['stack.Stack+json', 'x.Y+json']);
  assert.deepEqual(readdirSync(join(fixture.store.layout.dir, 'history')), []);
  assert.equal(history.log('unknown', never), undefined);
});

test('blobs of a record live and die with it, whatever else is collected', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  await build(history, 'r', 'text', canceled());
  await fixture.store.gc();
  const [event] = await list(history);
  assert.equal(await logText(history, 'r'), 'text');
  await history.delete('r');
  for (const { digest } of [event!.record!.logs!, event!.record!.externalError!])
    assert.equal(fixture.content.has(digest as Digest), false);
  assert.equal(fixture.leases.list().filter(({ id }) => id.startsWith('history_')).length, 0);
  await assert.rejects(history.delete('r'), /failed to delete build record r: not found/);
});

test('a listener sees what runs, what has run, and then what happens', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  await build(history, 'old');
  const running = history.recording(request('running'));
  const progress = new JobProgress();
  running.start(progress);
  const listen = history.listen(BuildHistoryRequest.create(), never);
  const next = async (): Promise<string> => {
    const { value } = await listen.next();
    return value ? `${value.type} ${value.record?.Ref} ${value.record?.Generation}` : 'end';
  };
  assert.deepEqual([await next(), await next()], ['0 running 0', '1 old 0']);
  assert.deepEqual(await refs(history, { ActiveOnly: true }), ['running']);
  await assert.rejects(history.delete('running'), /the build is running/);
  assert.throws(() => history.pin('running', true), /failed to retrieve ref running: file does not exist/);
  progress.close();
  await running.finish();
  history.pin('old', true);
  await history.delete('old');
  assert.deepEqual([await next(), await next(), await next()], ['1 running 0', '1 old 1', '2 old 0']);
  history.stop();
  assert.equal(await next(), 'end');
});

test('what somebody listens to is gone for others when it is deleted, but its blobs stay so long', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  await build(history, 'r');
  const listen = history.listen(BuildHistoryRequest.create({ Ref: 'r' }), never);
  const { value } = await listen.next();
  const digest = value?.record?.logs?.digest as Digest;
  await history.delete('r');
  assert.deepEqual(await refs(history, { Limit: 10 }), []);
  await assert.rejects(list(history, { Ref: 'r' }), /ref r is deleted: file does not exist/);
  assert.equal(fixture.content.has(digest), true);
  await listen.return(undefined);
  await fixture.store.gc();
  assert.equal(fixture.content.has(digest), false);
});

test('a limit takes the newest, of more records than one page holds', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  const all = Array.from({ length: 70 }, (_, i) => `b${i}`);
  for (const ref of all) await build(history, ref);
  assert.deepEqual(await refs(history), all);
  assert.deepEqual(await refs(history, { Limit: 2 }), ['b69', 'b68']);
  assert.deepEqual(await refs(history, { Limit: 2, Filter: ['ref~=^b[13]$'] }), ['b3', 'b1']);
  assert.deepEqual(await refs(history, { Ref: 'b7', Limit: 2 }), ['b7']);
  await assert.rejects(list(history, { Limit: -1 }), /invalid limit -1/);
});

test('records leave when they are old and many; pinned ones do not', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store, { maxEntries: 2, maxAgeMs: HOUR_MS });
  for (const ref of ['a', 'b', 'c', 'd', 'e']) await build(history, ref);
  history.pin('a', true);
  await history.collectOld();
  assert.deepEqual(await refs(history), ['a', 'b', 'c', 'd', 'e']);
  await history.collectOld(Date.now() + 2 * HOUR_MS);
  assert.deepEqual(await refs(history), ['a', 'd', 'e']);
});

test('a build that runs under the name of an earlier one takes its place', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  await build(history, 'r', 'first');
  await build(history, 'r', 'second');
  assert.deepEqual(await refs(history), ['r']);
  assert.equal(await logText(history, 'r'), 'second');
});

/** Recordings that never end, as when the process dies: what they have open may not be collected. */
const undone: Recording[] = [];

test('a build that ended with its daemon is closed as an error, with the log it had', async () => {
  await using root = temporaryRoot();
  {
    await using store = openTestStore(root.path);
    const history = open(store);
    await build(history, 'done');
    const progress = new JobProgress();
    const recording = history.recording(request('cut'));
    undone.push(recording);
    recording.start(progress);
    const step = new VertexReporter(digestOf('s'), 's', []);
    step.join(progress);
    step.start();
    step.log(1, Buffer.alloc(2 << 20, 'x')); // enough to be written at once
    const dir = join(store.layout.dir, 'history');
    while (readdirSync(dir).length === 0) await nextTurn();
    const [name] = readdirSync(dir);
    let size = -1;
    while (statSync(join(dir, name!)).size !== size || size < 2 << 20) {
      size = statSync(join(dir, name!)).size;
      await nextTurn();
    }
    appendFileSync(join(dir, name!), 'half a mess'); // what a kill can cut short
    appendFileSync(join(dir, 'orphan.log'), 'x');
    store.leases.create({ id: 'history_orphan', flat: true });
    await history[Symbol.asyncDispose]();
  }
  await using store = openTestStore(root.path);
  await using history = open(store);
  await history.recovered;
  const cut = (await list(history, { Ref: 'cut' }))[0]?.record;
  assert.equal(cut?.error?.message, 'the daemon ended before the build did');
  assert.equal(cut?.numTotalSteps, 1);
  assert.equal((await logText(history, 'cut')).length, 2 << 20);
  assert.equal(await logText(history, 'done'), 'done');
  assert.deepEqual(readdirSync(join(store.layout.dir, 'history')), []);
  assert.equal(store.leases.get('history_orphan'), undefined);
});

test('a log that cannot be written costs the log, not the record', async () => {
  await using fixture = await temporaryStore();
  const warnings: string[] = [];
  const log = createLogger({ level: 'warn', format: 'text', write: (line) => warnings.push(line) });
  await using history = open(fixture.store, { log });
  for (const dir of [fixture.store.layout.tmp, fixture.store.layout.content]) {
    await rm(dir, { recursive: true, force: true });
    await writeFile(dir, ''); // nothing can be put below it
  }
  await build(history, 'r', 'text', new BuildError('it broke'));
  const [event] = await list(history);
  assert.equal(event?.record?.error?.message, 'it broke');
  assert.equal(event?.record?.numTotalSteps, 1);
  assert.equal(event?.record?.logs, undefined);
  assert.match(warnings.join(''), /build history: could not write the log/);
});

test('the log of a long build goes to the disk as it comes', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  const progress = new JobProgress();
  const recording = history.recording(request('r'));
  recording.start(progress);
  const step = new VertexReporter(digestOf('s'), 's', []);
  step.join(progress);
  const dir = join(fixture.store.layout.dir, 'history');
  for (let i = 1; i <= 3; i++) {
    step.log(1, Buffer.alloc(2 << 20, 'x'));
    while (!readdirSync(dir).some((name) => statSync(join(dir, name)).size > i * (2 << 20))) await nextTurn();
  }
  step.log(1, Buffer.from('end'));
  progress.close();
  await recording.finish();
  const text = await logText(history, 'r');
  assert.equal(text.length, 3 * (2 << 20) + 3);
  assert.match(text.slice(-4), /xend/);
  assert.deepEqual(readdirSync(dir), []);
});

test('the trace of a build is made when somebody asks for it, once', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  await build(history, 'r', 'text', new BuildError('it broke'));
  await history.finalize('r', never);
  await history.finalize('r', never);
  await history.finalize('unknown', never);
  const record = (await list(history))[0]?.record;
  assert.equal(record?.Generation, 1);
  assert.equal(record?.trace?.mediaType, 'application/vnd.buildkit.otlp.json.v0');
  const text = Buffer.from(await fixture.content.readAll(record?.trace?.digest as Digest)).toString();
  const [whole, step] = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual([whole.Name, step.Name], ['build', 'step of r']);
  assert.deepEqual(whole.Status, { Code: 1, Description: 'it broke' });
  assert.equal(step.Parent.SpanID, whole.SpanContext.SpanID);
  assert.match(step.StartTime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
  await history.delete('r');
  assert.equal(fixture.content.has(record?.trace?.digest as Digest), false);
});

test('credentials in addresses and keys of caches are not kept', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  const imports = [
    { Type: 's3', Attrs: { bucket: 'b', secret_access_key: 'SECRET', session_token: 'SECRET' } },
  ];
  const frontendAttrs = {
    context: 'https://me:SECRET@example.com/a.git#main',
    'build-arg:HTTP_PROXY': 'http://u:SECRET@proxy:1',
    'cache-imports': JSON.stringify(imports),
    target: 'x',
  };
  const exporters = [{ type: 'image', attrs: { name: 'n', secret_access_key: 'SECRET' } }];
  const recording = history.recording({ ref: 'r', frontend: '', frontendAttrs, exporters });
  const progress = new JobProgress();
  recording.start(progress);
  progress.close();
  await recording.finish();
  const record = (await list(history))[0]?.record;
  assert.doesNotMatch(JSON.stringify([record?.FrontendAttrs, record?.Exporters]), /SECRET/);
  assert.equal(record?.FrontendAttrs.target, 'x');
  assert.match(record?.FrontendAttrs['cache-imports'] ?? '', /"bucket":"b"/);
});

test('what takes too long to be written is left out of the record, the rest is there', async () => {
  await using fixture = await temporaryStore();
  const warnings: string[] = [];
  const log = createLogger({ level: 'warn', format: 'text', write: (line) => warnings.push(line) });
  await using history = open(fixture.store, { finishLimitMs: 1000, log });
  using _alive = keepAlive();
  const progress = new JobProgress();
  const recording = history.recording(request('slow'));
  recording.start(progress);
  const about = { mediaType: 'x/y', annotations: {} };
  await recording.attach(() => new Promise(() => {}), about);
  progress.close();
  await recording.finish(new BuildError('it broke'));
  assert.match(warnings.join(''), /could not attach a document.*aborted due to timeout/);
  const [event] = await list(history);
  assert.equal(event?.record?.error?.message, 'it broke');
  assert.ok(event.record.logs);
  assert.equal(event.record.Result, undefined);
});

test('a document that comes late is added to the record; none for a build without a record', async () => {
  await using fixture = await temporaryStore();
  await using history = open(fixture.store);
  const progress = new JobProgress();
  const recording = history.recording(request('r'));
  recording.start(progress);
  history.attach('r', Buffer.from('why'), 'x/why');
  history.attach('nobody', Buffer.from('why'), 'x/why');
  progress.close();
  await recording.finish(new BuildError('it broke'));
  const added = async () => (await list(history, { Ref: 'r' }))[0]?.record?.Result?.Attestations ?? [];
  while ((await added()).length === 0) await nextTurn();
  const [document] = await added();
  assert.equal(document?.mediaType, 'x/why');
  assert.equal((await fixture.store.content.readAll(document.digest as Digest)).toString(), 'why');
  assert.equal((await list(history)).length, 1);
  await history.delete('r');
  assert.equal(fixture.store.content.has(document.digest as Digest), false);
});

/** Timers of deadlines do not keep a process. */
function keepAlive(): Disposable {
  const timer = setInterval(() => {}, 1000);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
