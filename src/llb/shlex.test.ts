import assert from 'node:assert/strict';
import test from 'node:test';
import { splitWords } from './shlex.ts';

const CASES: readonly (readonly [string, readonly string[]])[] = [
  ['', []],
  [' \t\r\n', []],
  ['a b', ['a', 'b']],
  ['  a\n\tb  ', ['a', 'b']],
  [`'a b' "c d"`, ['a b', 'c d']],
  [`'' ""`, ['', '']],
  [`a'b'"c"d`, ['abcd']],
  [`'a\\' b`, ['a\\', 'b']],
  ['"a\\"b\\n\\\\"', ['a"bn\\']],
  ['a\\ b \\"c', ['a b', '"c']],
  ['a\\\nb', ['a\nb']],
  ['a # b\nc', ['a', 'c']],
  ['# all', []],
  ['a#b \\#c "#"', ['a#b', '#c', '#']],
  [`$A *.o a|b;c`, ['$A', '*.o', 'a|b;c']],
];

for (const [command, words] of CASES)
  test(`splits ${JSON.stringify(command)}`, () => assert.deepEqual(splitWords(command), words));

test('what is not finished is refused', () => {
  for (const command of [`a 'b`, 'a "b', 'a "b\\"'])
    assert.throws(() => splitWords(command), /a quote is not closed in "a/);
  for (const command of ['a\\', 'a "b\\']) assert.throws(() => splitWords(command), /backslash at the end/);
});

test('long commands are split in one pass', () => {
  const command = `${'\\"'.repeat(200_000)} "${'a\\\\'.repeat(200_000)}" ${'#x '.repeat(100_000)}`;
  const words = splitWords(command);
  assert.deepEqual(
    words.map((word) => word.length),
    [200_000, 400_000],
  );
});
