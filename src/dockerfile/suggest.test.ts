import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closest, suggestion } from './suggest.ts';

/** Not the time of day: the machine may be busy. */
const cpuMs = (): number => process.cpuUsage().user / 1000;

test('the nearest name is suggested, when it is near', () => {
  const options = ['PATH', 'HOME', 'HOMES'];
  assert.equal(closest('PAHT', options, true), 'PATH');
  assert.equal(closest('HOMS', options, true), 'HOME', 'the first of two that are as near');
  assert.equal(closest('HOMESX', options, true), 'HOMES');
  assert.equal(closest('P', options, true), undefined);
  assert.equal(closest('PATH', options, true), undefined, 'the spelling is not the problem');
  assert.equal(closest('pat', ['PATH'], false), 'path');
  assert.equal(suggestion('bubsybox', ['busybox'], true), ' (did you mean busybox?)');
  assert.equal(closest('', ['ab', 'a'], true), 'a');
});

test('long names take no time', () => {
  const start = cpuMs();
  const name = 'x'.repeat(50_000);
  assert.equal(closest(`${name}abcdef`, [`${name}ghijkl`], true), undefined);
  assert.equal(closest(`${name}abc`, [`${name}abd`], true), `${name}abd`);
  assert.ok(cpuMs() - start < 2000);
});
