import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { createLogger } from '../base/log.ts';
import { ExecOp, Op } from '../llb/ops.ts';
import type { ContentLook } from '../ops/content-key.ts';
import { Database } from '../store/database.ts';
import { Explainer } from './explainer.ts';
import type { Trace } from './kept.ts';
import { ExplainStore } from './store.ts';

const dir = mkdtempSync(join(tmpdir(), 'bkt-explainer-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const log = createLogger({ level: 'error', format: 'text', write: () => {} });

let serial = 0;
function world(keepManifest: () => Promise<number> = async () => 1) {
  const db = new Database(join(dir, `${serial++}.db`));
  const puts: string[] = [];
  class Counting extends ExplainStore {
    override put(...args: Parameters<ExplainStore['put']>): void {
      puts.push(args[1]);
      super.put(...args);
    }
  }
  const store = new Counting(db, join(dir, `${serial}`));
  const jobs = { run: async (name: string) => (name === 'keepManifest' ? keepManifest() : undefined) };
  return { db, puts, store, explainer: new Explainer({ store, jobs: jobs as never, log }) };
}

/** A step that runs `command`. */
function trace(command: string, more: Partial<Trace> = {}): Trace {
  const op = Op.create({
    op: {
      $case: 'exec',
      value: ExecOp.create({ meta: { args: ['sh', '-c', command], env: [], cwd: '/', user: '' } }),
    },
  });
  const digest = digestOf(command) as Digest;
  const platform = { os: 'linux', architecture: 'amd64' };
  return {
    vertex: {
      digest,
      name: '[1/1] RUN',
      inputs: [],
      options: { ignoreCache: false, description: {} },
      spec: { op, platform, metadata: {}, locations: [], parse: () => assert.fail() } as never,
    },
    state: { digest, inputs: [], name: '', cached: true, started: 1n, completed: 2n, error: '' },
    ran: false,
    maps: [{ digest }],
    contents: [],
    keys: [command],
    matches: [command],
    lost: undefined,
    ...more,
  };
}

const ended = (ref: string, ...traces: Trace[]) => ({ ref, attrs: {}, folders: '', traces });

test('a build in which all is as it was is written once', async () => {
  const { db, puts, explainer } = world();
  using _db = db;
  for (let i = 0; i < 5; i++) explainer.ended(ended(`b${i}`, trace('a')));
  await explainer.close();
  assert.equal(puts.length, 1);
  assert.deepEqual(await explainer.find('b3'), { steps: [], comparedWith: 0 });
  explainer.ended(ended('x', trace('other')));
  explainer.ended(ended('y', trace('a')));
  await explainer.close();
  assert.equal(puts.length, 2);
});

test('builds are compared in the order in which they ended; found while that goes on, and after a restart', async () => {
  const { db, store, explainer } = world();
  using _db = db;
  explainer.ended(ended('one', trace('one', { ran: true })));
  explainer.ended(ended('two', trace('two', { ran: true })));
  const [cause] = (await explainer.find('two'))!.steps[0]!.causes;
  assert.deepEqual([cause?.kind, cause?.old, cause?.new], ['command', 'one', 'two']);
  const later = new Explainer({ store, jobs: { run: async () => undefined as never }, log });
  assert.deepEqual(await later.find('two'), await explainer.find('two'));
  assert.equal(await later.find('nobody'), undefined);
  later.forget('two');
  assert.equal(await later.find('two'), undefined);
});

test('builds of other folders are not compared, too large ones not at all', async () => {
  const { db, explainer } = world();
  using _db = db;
  explainer.ended(ended('one', trace('one', { ran: true })));
  explainer.ended({ ...ended('two', trace('two', { ran: true })), folders: 'others' });
  assert.equal((await explainer.find('two'))?.steps[0]?.causes[0]?.kind, 'no-record');
  explainer.ended(ended('many', ...Array.from({ length: 5001 }, (_, i) => trace(`${i}`, { ran: true }))));
  assert.equal(await explainer.find('many'), undefined);
});

test('a tree is released when it has been looked at, also when that fails, and is looked at once', async () => {
  const looked = Promise.withResolvers<number>();
  const { db, store, explainer } = world(() => looked.promise);
  using _db = db;
  const digest = digestOf('content') as Digest;
  const look = {
    digest,
    dir: '/',
    selectors: [],
    index: '',
    vertex: digestOf('v'),
  } as unknown as ContentLook;
  const indexed = { ...look, index: 'i', small: false };
  let released = 0;
  const release = async (): Promise<void> => void released++;
  assert.equal(explainer.keep(indexed, release), true);
  assert.equal(explainer.keep(indexed, release), false);
  const settled = explainer.settled([
    { ...trace('x'), vertex: { ...trace('x').vertex, digest: look.vertex } },
  ]);
  assert.equal(released, 0);
  looked.reject(new Error('the disk is gone'));
  await settled;
  assert.equal(released, 1);
  assert.equal(store.hasManifest(digest), false, 'tried again the next time');
  await explainer.close();
});

test('a build that goes on is compared as far as it has come, and leaves nothing', async () => {
  const { db, puts, explainer } = world();
  using _db = db;
  explainer.ended(ended('one', trace('one', { ran: true })));
  await explainer.close();
  const running = trace('two', { ran: true, keys: [], matches: [] });
  assert.equal(await explainer.soFar(ended('two', trace('two'))), undefined, 'nothing ran yet');
  const now = await explainer.soFar(ended('two', running));
  const [cause] = now!.steps[0]!.causes;
  assert.deepEqual([cause?.kind, cause?.old, cause?.new], ['command', 'one', 'two']);
  assert.equal(puts.length, 1);
  assert.equal(await explainer.find('two'), undefined);
});
