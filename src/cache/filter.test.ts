import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, hasCode } from '../base/errors.ts';
import { parseFilters, usageField } from './filter.ts';
import type { UsageRecord } from './ref.ts';

const record: UsageRecord = {
  id: 'abc123',
  mutable: false,
  inUse: true,
  size: 1,
  parents: ['p1', 'p2'],
  createdAt: new Date(0),
  lastUsedAt: undefined,
  usageCount: 0,
  description: 'pulled from docker.io/library/busybox, "latest"',
  recordType: 'source.local',
  shared: false,
};

const matches = (...filters: string[]): boolean => parseFilters(filters)(usageField(record));

test('filters compare, search and look for presence', () => {
  assert.ok(matches());
  assert.ok(matches('id==abc123'));
  assert.ok(!matches('id==abc'));
  assert.ok(matches('id!=abc'));
  assert.ok(matches('id~=^abc\\d+$'));
  assert.ok(!matches('id~=^b'));
  assert.ok(matches('type==source.local'));
  assert.ok(matches('parents==p1;p2'));
  assert.ok(matches('inuse') && matches('immutable') && matches('private'));
  assert.ok(!matches('mutable') && !matches('shared'));
  assert.ok(!matches('unknown') && !matches('unknown==x'));
  assert.ok(matches('unknown!=x'));
  assert.ok(!matches('toString') && !matches('__proto__'));
});

test('commas join by and, several filters by or', () => {
  assert.ok(matches('inuse,id==abc123, type~=^source'));
  assert.ok(!matches('inuse,mutable'));
  assert.ok(matches('mutable', 'inuse'));
  assert.ok(!matches('mutable', 'shared'));
  assert.ok(matches());
  assert.ok(matches(''));
  assert.ok(matches('mutable', ''));
});

test('values may be quoted, expressions in other quotes too', () => {
  assert.ok(matches('description=="pulled from docker.io/library/busybox, \\"latest\\""'));
  assert.ok(matches('description~=/docker\\.io\\/library/'.replaceAll('\\.', '.')));
  assert.ok(matches('description~=|library/busy|'));
  assert.ok(matches('id=="\\x61\\u0062c\\06123"'));
  assert.ok(!matches('id~=('), 'a broken expression matches nothing');
});

test('mistakes are refused with their place', () => {
  for (const [filter, message] of [
    [' ', /filters: parse error: /],
    ['id=', /unsupported operator "="/],
    ['id===x', /unsupported operator "==="/],
    ['id==', /expected value or quoted/],
    ['id x', /\[id {2}>\|x\|< \]: expected an operator/],
    ['id==a b', /unexpected input/],
    ['id==,', /expected value or quoted/],
    ['id=="open', /quoted literal not terminated/],
    ['id==/x/', /invalid quote encountered/],
    ['id=="\\q"', /illegal escape/],
    ['id,', /expected field or quoted/],
    ['id.', /expected field or quoted/],
  ] as const)
    assert.throws(
      () => parseFilters([filter]),
      (e) => hasCode(e, Code.invalidArgument) && message.test((e as Error).message),
      filter,
    );
  assert.throws(() => parseFilters(['id', 'id=='], 'prune'), {
    message:
      'failed to parse prune filters [id id==]: filters: parse error: [id==]: expected value or quoted: invalid argument',
  });
});
