import assert from 'node:assert/strict';
import { test } from 'node:test';
import { globMatch, hasWildcards } from './glob.ts';
import { readIgnoreFile } from './ignorefile.ts';
import { basePath, cleanPath, compareBytes, dirPath, joinPath, sortNames } from './paths.ts';
import { matchesOrParentMatches, type Pattern, PatternMatcher, patternMatches } from './patterns.ts';

// Answers recorded from Go's moby/patternmatcher: patterns, path, MatchesOrParentMatches.
const RECORDED: readonly (readonly [readonly string[], string, boolean])[] = [
  [['**'], 'file', true],
  [['**'], 'dir/file', true],
  [['**/'], 'dir/', true],
  [['**/**'], 'dir/file', true],
  [['dir/**'], 'dir', false],
  [['dir/**'], 'dir/file', true],
  [['dir/**'], 'dir/dir2/file', true],
  [['**/dir'], 'dir', true],
  [['**/dir'], 'dir/file', true],
  [['**/dir2/*'], 'dir/dir2/file', true],
  [['**/dir2/**'], 'dir/dir2/dir2/file', true],
  [['**file'], 'dir/file', true],
  [['**/file'], 'file', true],
  [['**file'], 'dir/xfile', true],
  [['**/file'], 'dir/xfile', false],
  [['a**/*.txt'], 'abc/dir/file.txt', true],
  [['a/*.txt'], 'a/b/file.txt', false],
  [['a[b-d]e'], 'ace', true],
  [['a\\*b'], 'a*b', true],
  [['.*'], '.foo', true],
  [['.*'], 'foo', false],
  [['abc.def'], 'abcZdef', false],
  [['a(b)c/def'], 'a(b)c/def', true],
  [['*', '!a'], 'a', false],
  [['*', '!a/b'], 'a/b', false],
  [['*', '!a/b'], 'a/c', true],
  [['a', '!a/b', 'a/b/c'], 'a/b/c/d', true],
  [['a', '!a/b', 'a/b/c'], 'a/b/d', false],
  [['docs', '!docs/README.md'], 'docs/README.md', false],
  [['!**/*.go', '*'], 'main.go', true],
  [['*x|b'], 'ab', true],
  [['?{2}'], 'ab', true],
  [['**\\d'], '7', true],
  [['util/docker/web'], 'util/docker/web/foo', true],
  [['+*'], '+(x)', true],
];

test('patterns match as recorded from Go', () => {
  for (const [patterns, path, expected] of RECORDED) {
    assert.equal(matchesOrParentMatches(path, patterns), expected, `${patterns.join(' ')} on ${path}`);
  }
  assert.equal(matchesOrParentMatches('.', ['**']), false);
});

test('malformed patterns are refused', () => {
  assert.throws(() => new PatternMatcher(['[']), { message: 'syntax error in pattern' });
  assert.throws(() => new PatternMatcher(['a\\']), { message: 'syntax error in pattern' });
  assert.throws(() => new PatternMatcher(['!']), { message: 'illegal exclusion pattern: "!"' });
  // Malformed only as an expression: noticed when asked.
  const late = new PatternMatcher(['*[z-a]']);
  assert.throws(() => late.matchesOrParentMatches('x'), { message: 'syntax error in pattern' });
});

test('glob', () => {
  const cases: [string, string, boolean][] = [
    ['*', 'a/b', false],
    ['a*b?c*x', 'abxbbxdbxebxczzx', true],
    ['a*b?c*x', 'abxbbxdbxebxczzy', false],
    ['a*/b', 'abc/b', true],
    ['[^a-c]x', 'dx', true],
    ['[\\]a]', ']', true],
    ['*ü', 'süü', true],
    ['a*', 'ab/c', false],
  ];
  for (const [pattern, name, expected] of cases) assert.equal(globMatch(pattern, name), expected, pattern);
  for (const bad of ['[', '[]a]', '[-]', '[a-]', '\\', '[a'])
    assert.throws(() => globMatch(bad, 'a'), /syntax error/, bad);
  // What lies behind the first failing piece is not looked at.
  assert.equal(globMatch('x*[', 'a'), false);
  assert.deepEqual(['a*', 'a\\*', '[a', 'a?', 'a'].map(hasWildcards), [true, false, true, true, false]);
});

/** The plain algorithm: every pattern in turn on the path and each directory above. */
function slowMatch(patterns: readonly Pattern[], path: string): boolean {
  const parts = path.split('/');
  let matched = false;
  for (const pattern of patterns) {
    if (pattern.exclusion !== matched) continue;
    if (parts.some((_, i) => patternMatches(pattern, parts.slice(0, i + 1).join('/'))))
      matched = !pattern.exclusion;
  }
  return matched;
}

function randomSource(seed: number): (below: number) => number {
  return (below) => ((seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff) >>> 8) % below;
}

test('the index gives what asking every pattern gives, top-down and at once', () => {
  const random = randomSource(7);
  const tokens = ['a', 'b', 'c', '/', '/', '*', '**', '**/', '/**', '?', '[ab]', '\\a', '.', '|', 'x'];
  const word = (from: readonly string[], length: number): string =>
    Array.from({ length: 1 + random(length) }, () => from[random(from.length)]).join('');
  for (let round = 0; round < 3000; round++) {
    const lines = Array.from(
      { length: 1 + random(6) },
      () => (random(3) === 0 ? '!' : '') + word(tokens, 6).replace(/^!/, ''),
    ).filter((line) => cleanPath(line) !== '!');
    const matcher = new PatternMatcher(lines);
    const path = cleanPath(word(['a', 'b', 'c', '/', 'x', '.'], 9)).replace(/^[/.]+/, '') || 'a';
    const expected = slowMatch(matcher.patterns, path);
    assert.equal(matcher.matchesOrParentMatches(path), expected, `${lines.join(' ')} on ${path}`);
    const parts = path.split('/');
    let result = matcher.matchesUsingParentResults(parts[0]!);
    for (let depth = 2; depth <= parts.length; depth++)
      result = matcher.matchesUsingParentResults(parts.slice(0, depth).join('/'), result.info);
    assert.equal(result.matched, expected, `top-down: ${lines.join(' ')} on ${path}`);
  }
});

test('5,000 patterns on 100,000 paths', () => {
  const patterns = Array.from({ length: 5000 }, (_, i) =>
    i % 3 === 0 ? `dir${i}/sub` : i % 3 === 1 ? `**/name${i}.o` : `gen${i}/*.log`,
  );
  const matcher = new PatternMatcher(patterns);
  const start = performance.now();
  let matched = 0;
  for (let i = 0; i < 100_000; i++)
    if (matcher.matchesUsingParentResults(`d${i % 100}/name${i % 7000}.o`, []).matched) matched++;
  assert.ok(matched > 20_000);
  assert.ok(performance.now() - start < 5000, `${performance.now() - start} ms`);
});

test('ignore files', () => {
  const text = '\ufeff# no\n\n  a/b/ \r\n /abs/x\n!  /y/../z\n #kept\n!\n**/*.o\n./c\n/';
  assert.deepEqual(readIgnoreFile(text), ['a/b', 'abs/x', '!z', '#kept', '!', '**/*.o', 'c', '/']);
  assert.deepEqual(readIgnoreFile(new TextEncoder().encode('\ufeffa\n')), ['a']);
  assert.throws(() => readIgnoreFile('x'.repeat(70_000)), /token too long/);
});

test('paths', () => {
  assert.deepEqual(['', 'a/', '//a//b', '/..', 'a/../..', './a'].map(cleanPath), [
    '.',
    'a',
    '/a/b',
    '/',
    '..',
    'a',
  ]);
  assert.deepEqual(['a', '/a', 'a/b', 'a/b/', ''].map(dirPath), ['.', '/', 'a', 'a/b', '.']);
  assert.deepEqual(['', '/', 'a/b/', 'b'].map(basePath), ['.', '/', 'b', 'b']);
  assert.equal(joinPath('', ''), '');
  assert.equal(joinPath('.', '/x'), 'x');
  const names = ['\u{1f600}', '\uffee', 'z', 'a', '\ue000'];
  const bytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
  assert.deepEqual(sortNames([...names]), [...names].sort(bytes));
  assert.ok(compareBytes('\uffee', '\u{1f600}') < 0);
});
