import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Digest } from '../../base/digest.ts';
import type { SolveStatus, VertexState } from '../types.ts';
import { mergeProgress, openProgress, type ShowOptions, showProgress } from './index.ts';

const EMPTY = { vertexes: [], statuses: [], logs: [], warnings: [] };
const digest = (n: number): Digest => `sha256:${`${n}`.repeat(64)}` as Digest;

function step(n: number, name: string, more: Partial<VertexState> = {}): SolveStatus {
  const times = { started: 1_000_000_000n, completed: 2_000_000_000n };
  return {
    ...EMPTY,
    vertexes: [{ digest: digest(n), inputs: [], name, cached: false, error: '', ...times, ...more }],
  };
}

async function* messages(...all: SolveStatus[]): AsyncGenerator<SolveStatus> {
  yield* all;
}

/** An output, and what was written. */
function written(options: ShowOptions = {}): { readonly options: ShowOptions; text(): string } {
  const chunks: Uint8Array[] = [];
  const output = { write: (data: Uint8Array) => chunks.push(data) };
  return { options: { output, env: {}, ...options }, text: () => Buffer.concat(chunks).toString() };
}

const warning = {
  vertex: digest(1),
  level: 1,
  short: Buffer.from('mind'),
  detail: [],
  url: '',
  ranges: [],
};

test('plain text where there is no terminal; the warnings are given back; messages go elsewhere too', async () => {
  const seen: SolveStatus[] = [];
  const out = written({ description: 'my build', onStatus: (status) => seen.push(status) });
  const progress = messages(step(1, 'RUN a'), { ...EMPTY, warnings: [warning] });
  assert.deepEqual(await showProgress(progress, out.options), [warning]);
  assert.match(out.text(), /^#0 my build\n\n#1 RUN a\n#1 DONE 1\.0s\n/);
  assert.equal(seen.length, 2);
});

test('modes: quiet writes nothing, rawjson one object a message, tty needs a terminal', async () => {
  const quiet = written({ mode: 'quiet' });
  await showProgress(messages(step(1, 'a')), quiet.options);
  assert.equal(quiet.text(), '');
  const json = written({ mode: 'rawjson', keepTimes: true });
  await showProgress(messages(step(1, 'a')), json.options);
  assert.equal(JSON.parse(json.text()).vertexes[0].started, '1970-01-01T00:00:01Z');
  await assert.rejects(
    showProgress(messages(), written({ mode: 'tty' }).options),
    /provided file is not a console/,
  );
  const output = { ...written().options.output!, isTTY: true, columns: 40, rows: 10 };
  const tty = written();
  const terminal = { ...output, write: tty.options.output!.write };
  await showProgress(messages(step(1, 'a')), { ...tty.options, output: terminal, phase: 'Testing' });
  assert.match(tty.text(), /\[\+\] Testing/);
  const asked = written({ env: { BUILDKIT_PROGRESS: 'quiet' } });
  await showProgress(messages(step(1, 'a')), asked.options);
  assert.equal(asked.text(), '');
});

test('the errors of steps are shown at the end, also when reading the progress throws', async () => {
  const out = written();
  const broken = async function* (): AsyncGenerator<SolveStatus> {
    yield step(1, 'RUN x', { error: 'went wrong' });
    throw new Error('lost');
  };
  await assert.rejects(showProgress(broken(), out.options), /lost/);
  assert.match(out.text(), /#1 ERROR: went wrong\n------\n > RUN x:\n------\n$/);
});

test('a display that is fed by hand is finished once', () => {
  const out = written();
  const view = openProgress(out.options);
  view.update(step(1, 'RUN a'));
  view.finish();
  view.finish();
  view.update(step(2, 'RUN b'));
  view[Symbol.dispose]();
  assert.equal(out.text().match(/RUN/g)?.length, 1);
});

test('several builds are one progress, by name', async () => {
  const merged = mergeProgress({ x: messages(step(1, '[a 1/2] RUN')), y: messages(step(2, 'plain'), EMPTY) });
  const all = await Array.fromAsync(merged);
  assert.equal(all.length, 3);
  const names = all.flatMap(({ vertexes }) => vertexes.map(({ name }) => name));
  assert.deepEqual(names.sort(), ['[x a 1/2] RUN', '[y] plain']);
});

test('what one of several builds throws ends all; leaving early waits for none', async () => {
  const failing = async function* (): AsyncGenerator<SolveStatus> {
    yield EMPTY;
    throw new Error('lost');
  };
  const endless = async function* (): AsyncGenerator<SolveStatus> {
    await new Promise(() => {});
    yield EMPTY;
  };
  await assert.rejects(Array.fromAsync(mergeProgress({ a: endless(), b: failing() })), /lost/);
  for await (const _ of mergeProgress({ a: endless(), b: messages(EMPTY) })) break;
});
