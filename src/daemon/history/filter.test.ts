import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildHistoryRecord } from '../../pb/control.ts';
import { timestampOfNanos } from '../time-wire.ts';
import { recordFilter } from './filter.ts';

const S = 1_000_000_000n;
const now = BigInt(Date.now()) * 1_000_000n;

/** Started `ago` seconds ago, took `took` seconds; runs still when that is not given. */
function record(ref: string, ago: bigint, took?: bigint, more: Partial<BuildHistoryRecord> = {}) {
  return {
    ...BuildHistoryRecord.create({ Ref: ref }),
    CreatedAt: timestampOfNanos(now - ago * S),
    CompletedAt: took === undefined ? undefined : timestampOfNanos(now - (ago - took) * S),
    ...more,
  };
}

const failed = (message: string) => ({ error: { code: 2, message, details: [] } });
const records = [
  record('good', 100n, 10n, { FrontendAttrs: { 'vcs:source': 'https://example.com/a.git' } }),
  record('bad', 4000n, 3000n, failed('exit code: 1')),
  record('cut', 200n, 1n, failed('failed to solve: context canceled')),
  record('run', 5n, undefined, { FrontendAttrs: { context: 'https://example.com/b.git#main' } }),
];

const select = (...texts: string[]): string[] => records.filter(recordFilter(texts)).map(({ Ref }) => Ref);

test('fields of one text must all match, one of several texts is enough', () => {
  assert.deepEqual(select(), ['good', 'bad', 'cut', 'run']);
  assert.deepEqual(select('ref==bad'), ['bad']);
  assert.deepEqual(select('ref~=o'), ['good']);
  assert.deepEqual(select('ref==bad,status==error'), ['bad']);
  assert.deepEqual(select('ref==bad,status==completed'), []);
  assert.deepEqual(select('ref==bad', 'status==completed'), ['good', 'bad']);
  assert.deepEqual(select('unknown==x'), []);
  assert.deepEqual(select(''), ['good', 'bad', 'cut', 'run']);
});

test('states of builds', () => {
  const states = ['completed', 'error', 'canceled', 'running'];
  assert.deepEqual(
    states.map((state) => select(`status==${state}`)),
    [['good'], ['bad'], ['cut'], ['run']],
  );
});

test('the repository is what the client says of it, or the context', () => {
  assert.deepEqual(select('"repository==https://example.com/a.git"'), ['good']);
  assert.deepEqual(select('repository~=example.com/b'), ['run']);
  assert.deepEqual(select('repository'), ['good', 'run']);
});

test('times are points or distances from now; a running build has none of its end', () => {
  assert.deepEqual(select('startedAt>1h'), ['good', 'cut', 'run']);
  assert.deepEqual(select('startedAt<=1h'), ['bad']);
  assert.deepEqual(select(`startedAt>=${new Date(Date.now() - 150_000).toISOString()}`), ['good', 'run']);
  assert.deepEqual(select('completedAt>150s'), ['good']);
  assert.deepEqual(select('duration>5s'), ['good', 'bad']);
  assert.deepEqual(select('duration<5s,status!=running'), ['cut']);
});

test('what is not understood is refused by name', () => {
  assert.throws(() => recordFilter(['startedAt>yesterday']), /^BuildError: invalid time yesterday$/);
  assert.throws(() => recordFilter(['duration>=x']), /^BuildError: invalid duration x$/);
  assert.throws(
    () => recordFilter(['ref=x']),
    /failed to parse history filters ref=x: .*unsupported operator/,
  );
  assert.throws(() => recordFilter(['"ref']), /parse error/);
});
