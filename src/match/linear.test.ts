import assert from 'node:assert/strict';
import { test } from 'node:test';
import { linearMatcher } from './linear.ts';
import { PatternMatcher, trimSpace } from './patterns.ts';

const MAX_MS = 2000;

test('no pattern keeps its reader busy', () => {
  const started = performance.now();
  for (const [pattern, path] of [
    [`${'*a'.repeat(40)}b*`, 'a'.repeat(250)],
    [`${'**/a/'.repeat(30)}b*`, `${'a/'.repeat(200)}c`],
    [`${'**a'.repeat(30)}b*`, 'a'.repeat(1000)],
    [`x|${'*a'.repeat(20)}b*`, 'a'.repeat(250)],
  ] as const)
    assert.equal(new PatternMatcher([pattern]).matchesOrParentMatches(path), false, pattern);
  assert.equal(trimSpace(`\t\u2003 a${' '.repeat(300_000)}b\u0085 `).length, 300_002);
  assert.ok(performance.now() - started < MAX_MS);
  const endless = new PatternMatcher([`*${'a'.repeat(300_000)}*`]);
  assert.throws(() => endless.matchesOrParentMatches('b'), /^[^a]*syntax error in pattern$/);
  // Counts make repeats without a star.
  const counted = new PatternMatcher([`${'?{0,900}'.repeat(9)}b*`]);
  assert.throws(() => counted.matchesOrParentMatches('a'.repeat(200)), /syntax error in pattern/);
});

test('the answers are those of the regular expression', () => {
  const parts = ['a', 'b', '/', '[ab]', '[^\\n]*', '[^/]*', '[^/]', '(.*/)?', '\\u{61}', '|', '[^a]*'];
  let seed = 11;
  const random = (below: number): number =>
    ((seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff) >>> 8) % below;
  const atomsOf = (part: string): string[] => {
    if (part === '(.*/)?') return ['(', '[^\\n]', '*', '/', ')', '?'];
    return part.length > 1 && part.endsWith('*') ? [part.slice(0, -1), '*'] : [part];
  };
  let matching = 0;
  for (let round = 0; round < 4000; round++) {
    const chosen = Array.from({ length: 1 + random(7) }, () => parts[random(parts.length)]!);
    const atoms = ['(?:^)', ...chosen.flatMap(atomsOf), '$'];
    const expression = new RegExp(atoms.join(''), 'u');
    const path = Array.from({ length: random(7) }, () => 'aab/c\nü'[random(7)]).join('');
    const expected = expression.test(path);
    if (expected) matching++;
    assert.equal(
      linearMatcher(atoms)?.test(path),
      expected,
      `${expression.source} on ${JSON.stringify(path)}`,
    );
  }
  assert.ok(matching > 400 && matching < 3600, String(matching));
});
