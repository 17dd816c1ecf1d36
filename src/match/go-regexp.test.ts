import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GoRegExp } from './go-regexp.ts';

const enough = () => ({ left: 1_000_000 });
const matches = (source: string, text: string): boolean => new GoRegExp(source).test(text, enough());
const replaced = (source: string, text: string, template: string): string =>
  new GoRegExp(source).replaceAll(text, template, enough());

test('expressions match as those of Go', () => {
  const yes = [
    ['b', 'abc'],
    ['^a.c$', 'abc'],
    ['^(?:a|bc)+$', 'abcbca'],
    ['^[a-f0-9]{64}$', '0123456789abcdef'.repeat(4)],
    ['^a{2,3}?$', 'aaa'],
    ['^a{2,}$', 'aaaaa'],
    ['(?i)^DOCKER\\.io/', 'docker.IO/x'],
    ['^(?i:a)b$', 'Ab'],
    ['(?s)^a.b$', 'a\nb'],
    ['(?m)^b$', 'a\nb\nc'],
    ['\\bfoo\\b', 'a foo b'],
    ['\\Bo\\B', 'foot'],
    ['^[[:alpha:]\\d_-]+$', 'a1_-'],
    ['^(a*)*$', 'aaa'],
    ['^(|a)+$', 'aa'],
    ['^\\$\\{x\\}$', '${x}'],
    ['a{,2}', 'a{,2}'],
    ['', ''],
    ['^.$', '😀'],
    ['^(?P<one>x)(?<two>y)$', 'xy'],
  ] as const;
  for (const [source, text] of yes) assert.ok(matches(source, text), `${source} on ${text}`);
  const no = [
    ['^b', 'abc'],
    ['^a.b$', 'a\nb'],
    ['^a$', 'a\n'],
    ['(?m)\\Ab', 'a\nb'],
    ['(?m)a\\z', 'a\nb'],
    ['^(?i:a)b$', 'aB'],
    ['^a{2,3}$', 'aaaa'],
    ['^[^\\d]$', '7'],
    ['a{0}b', 'a'],
  ] as const;
  for (const [source, text] of no) assert.ok(!matches(source, text), `${source} on ${text}`);
});

test('matches are replaced by templates', () => {
  assert.equal(replaced('^(.*)/(.*)$', 'a/b/c', '$2-${1}'), 'c-a/b');
  assert.equal(replaced('(?P<tag>:.*)', 'x:1', '${tag}$tag'), 'x:1:1');
  assert.equal(replaced('a', 'banana', '$0$0'), 'baanaanaa');
  assert.equal(replaced('a*', 'baac', '-'), '-b-c-');
  assert.equal(replaced('(a+?)', 'aaa', '<$1>'), '<a><a><a>');
  assert.equal(replaced('(?U)(a+)', 'aaa', '<$1>'), '<a><a><a>');
  assert.equal(replaced('(a|ab)(c|bcd)', 'abcd', '$1,$2'), 'a,bcd');
  assert.equal(replaced('(a)|(b)', 'b', '[$1$2]'), '[b]');
  assert.equal(replaced('x(.)', 'xy', '$1x ${9} $$1 $ ${ $none'), '  $1 $ ${ ');
  assert.equal(replaced('(?P<n>a)|(?P<n>b)', 'b', '[$n]'), '[b]');
  assert.equal(replaced('z', 'abc', '$0'), 'abc');
});

test('what is no expression is refused with its text', () => {
  const wrong = ['(', ')', 'a)', '[', '[b-a]', '*', 'a**', 'a{3,2}', 'a{1001}', '(?=a)', '(?<n', '\\', '\\8'];
  for (const source of [...wrong, '(?z)', '|*', '(?i)*', '\\pX', '(?P<a-b>x)'])
    assert.throws(
      () => new GoRegExp(source),
      (error: Error) => error.message.startsWith('error parsing regexp: ') && error.message.includes(source),
      source,
    );
});

test('expressions made to take for ever take little, or are refused', () => {
  const long = 'a'.repeat(5000);
  for (const source of ['^(a+)+$', '^(a|a)*b', '^(a|aa)+$', '(.*)*(.*)*(.*)*x', '(a?){50}a{50}$'])
    assert.equal(typeof new GoRegExp(source).test(long, { left: 5_000_000 }), 'boolean', source);
  assert.throws(
    () => new GoRegExp('(?:a?){1000}b').replaceAll(long, '', { left: 100_000 }),
    /regular expressions take too many steps/,
  );
  const budget = { left: 10 };
  assert.throws(() => new GoRegExp('a').test('b'.repeat(100), budget), /too many steps/);
  const large = ['(?:(?:(?:a{1000}){1000}){1000})', '(?:(?:(?:){1000}){1000}){1000}', '((a{100}){100}){100}'];
  for (const source of large) assert.throws(() => new GoRegExp(source), /too large/);
  assert.throws(() => new GoRegExp('('.repeat(5000)), /nests too deeply|more than 100 groups/);
  assert.throws(() => new GoRegExp('(?:'.repeat(3000)), /nests too deeply/);
  assert.throws(() => new GoRegExp('a'.repeat(20_000)), /longer than/);
});

test('whatever is given ends in an answer or a clear error', () => {
  const parts = [
    'a',
    '(',
    ')',
    '[',
    ']',
    '*',
    '+',
    '?',
    '{2}',
    '{1,',
    '|',
    '^',
    '$',
    '\\',
    '(?:',
    '(?i)',
    '-',
    'é',
  ];
  let seed = 7;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  for (let round = 0; round < 3000; round++) {
    const source = Array.from({ length: random(12) }, () => parts[random(parts.length)]).join('');
    try {
      new GoRegExp(source).replaceAll('aéa-aa', '$1', enough());
    } catch (error) {
      assert.match((error as Error).message, /^error parsing regexp: /, source);
    }
  }
});
