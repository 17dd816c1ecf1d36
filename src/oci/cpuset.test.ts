import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatCpuset, parseCpuset } from './cpuset.ts';

test('lists of processors are read and written', () => {
  for (const [text, written] of [
    ['', ''],
    ['3', '3'],
    ['0-3,5', '0-3,5'],
    ['7,1,0,2,9 , 8', '0-2,7-9'],
    ['1 - 2,,2', '1-2'],
    ['8192', '8192'],
  ] as const) {
    assert.equal(formatCpuset(parseCpuset(text)), written, text);
  }
});

test('what is no list of processors is refused', () => {
  for (const [text, message] of [
    ['x', /^invalid cpuset element "x"$/],
    ['1.5', /^invalid cpuset element "1.5"$/],
    ['3-1', /^invalid cpuset range "3-1"$/],
    ['-1', /^invalid cpuset range "-1"$/],
    ['9000', /^cpuset element "9000" exceeds maximum 8192$/],
    ['0-999999999999', /^cpuset range "0-999999999999" exceeds maximum 8192$/],
  ] as const) {
    assert.throws(() => parseCpuset(text), { message }, text);
  }
});

test('a list of very many ranges takes no time', () => {
  const began = performance.now();
  assert.equal(formatCpuset(parseCpuset('0-8192,'.repeat(300_000))), '0-8192');
  assert.ok(performance.now() - began < 5000);
});
