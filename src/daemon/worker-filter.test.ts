import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WorkerRecord } from '../pb/worker.ts';
import { matchWorkers } from './worker-filter.ts';

const worker: WorkerRecord = {
  ID: 'w1',
  Labels: { 'org.example.executor': 'oci', plain: 'x' },
  platforms: [],
  GCPolicy: [],
  BuildkitVersion: undefined,
  CDIDevices: [],
};
const matches = (...filters: string[]): boolean => matchWorkers([worker], filters).length === 1;

test('workers are filtered in the grammar of every filter', () => {
  for (const filter of ['', 'id', 'id==w1', 'labels.plain==x', 'labels."org.example.executor"~=^o', 'id!=x'])
    assert.ok(matches(filter), filter);
  assert.ok(matches());
  assert.ok(matches('id==other', 'labels.plain'), 'several are alternatives');
  for (const filter of [
    'id==other',
    'labels',
    'labels.none',
    'other',
    'other==x',
    'id~=[',
    'id==w1,labels.plain==y',
  ])
    assert.ok(!matches(filter), filter);
  assert.throws(() => matches('id=='), {
    message: 'filters: parse error: [id==]: expected value or quoted: invalid argument',
  });
});
