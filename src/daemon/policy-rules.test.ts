import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AttrMatch, MatchType, Policy, PolicyAction } from '../pb/sourcepolicy.ts';
import { applyRules, PatternCache, validatePolicy } from './policy-rules.ts';
import { normalizedSource } from './source-name.ts';

const { ALLOW, DENY, CONVERT } = PolicyAction;
const { EXACT, REGEX } = MatchType;
type RuleInput = NonNullable<Parameters<typeof Policy.fromPartial>[0]['rules']>[number];

const rule = (action: PolicyAction, identifier: string, more: object = {}, updates?: object): RuleInput => ({
  action,
  selector: { identifier, ...more },
  ...(updates ? { updates } : {}),
});

/** @returns what became of the source */
function apply(identifier: string, ...rules: RuleInput[]): string {
  const source = { identifier, attrs: {} };
  applyRules(source, [Policy.fromPartial({ rules })], new PatternCache());
  return source.identifier;
}

const X = 'docker-image://docker.io/library/x:1';
const denied = { message: `source "${X}" denied by policy: source denied by policy` };

test('the last rule that allows or denies a source decides', () => {
  assert.equal(apply(X), X);
  assert.equal(apply(X, rule(DENY, 'docker-image://docker.io/library/y:1')), X);
  assert.throws(() => apply(X, rule(DENY, X)), denied);
  assert.throws(() => apply(X, rule(ALLOW, X), rule(DENY, X)), denied);
  assert.equal(apply(X, rule(DENY, '*'), rule(ALLOW, X)), X);
  assert.equal(apply(X, rule(DENY, '*library/*:2')), X);
  assert.throws(() => apply(X, rule(DENY, '*library/*:1')), denied);
  assert.equal(apply(X, rule(DENY, '*', { matchType: EXACT })), X);
  assert.throws(() => apply(X, rule(DENY, 'library/[xy]:', { matchType: REGEX })), denied);
});

test('several policies must all allow', () => {
  const policies = [[rule(ALLOW, '*')], [rule(DENY, X)]].map((rules) => Policy.fromPartial({ rules }));
  assert.throws(() => applyRules({ identifier: X, attrs: {} }, policies, new PatternCache()), denied);
});

test('constraints on attributes', () => {
  const source = { identifier: X, attrs: { a: 'b1' } };
  const isDenied = (key: string, condition: AttrMatch, value: string): boolean => {
    const rules = [rule(DENY, X, { constraints: [{ key, condition, value }] })];
    try {
      return applyRules(source, [Policy.fromPartial({ rules })], new PatternCache());
    } catch (error) {
      assert.equal((error as Error).message, denied.message);
      return true;
    }
  };
  assert.ok(isDenied('a', AttrMatch.EQUAL, 'b1') && !isDenied('a', AttrMatch.EQUAL, 'b'));
  assert.ok(isDenied('a', AttrMatch.NOTEQUAL, 'b') && !isDenied('a', AttrMatch.NOTEQUAL, 'b1'));
  assert.ok(isDenied('a', AttrMatch.MATCHES, '^b\\d$') && !isDenied('a', AttrMatch.MATCHES, '^\\d$'));
  assert.ok(isDenied('toString', AttrMatch.EQUAL, ''));
});

test('conversions take groups along, and start the rules again', () => {
  const to = (identifier: string) => ({ identifier });
  assert.equal(
    apply(X, rule(CONVERT, '*library/*:1', {}, to('${1}mirror/${2}:9'))),
    X.replace(/library.*/, 'mirror/x:9'),
  );
  assert.equal(
    apply(X, rule(CONVERT, 'x:(\\d)$', { matchType: REGEX }, to('y:$1$1'))),
    X.replace('x:1', 'y:11'),
  );
  assert.equal(apply(X, rule(CONVERT, X, { matchType: EXACT }, to('https://$1'))), 'https://$1');
  const chain = [rule(CONVERT, 'https://b', {}, to('https://c')), rule(CONVERT, X, {}, to('https://b'))];
  assert.equal(apply(X, ...chain), 'https://c');
  assert.throws(
    () => apply(X, rule(CONVERT, X, {}, to('https://b')), rule(DENY, 'https://b')),
    /"https:\/\/b" denied/,
  );

  const source = { identifier: X, attrs: { keep: '1' } };
  const attrs = { 'http.checksum': 'sha256:aa' };
  const policy = Policy.fromPartial({ rules: [rule(CONVERT, X, {}, { attrs })] });
  assert.equal(applyRules(source, [policy], new PatternCache()), true);
  assert.deepEqual(source, { identifier: X, attrs: { keep: '1', ...attrs } });
  assert.equal(applyRules(source, [policy], new PatternCache()), false);
});

test('rules that make no sense end the build with what is wrong', () => {
  const circle = [
    rule(CONVERT, 'https://a', {}, { identifier: 'https://b' }),
    rule(CONVERT, 'https://b', {}, { identifier: 'https://a' }),
  ];
  assert.throws(() => apply('https://a', ...circle), {
    message: 'too many mutations on a single source: too many operations',
  });
  assert.throws(() => apply(X, rule(CONVERT, X)), {
    message: 'error mutating source policy: missing destination for convert rule',
  });
  assert.throws(() => apply(X, rule(9000 as PolicyAction, X)), {
    message: `source policy: rule 9000 ${X}: unknown type "${X}"`,
  });
  assert.throws(() => apply(X, rule(DENY, 'a', { matchType: 7 })), {
    message: 'error matching source policy: unknown match type: 7',
  });
  assert.throws(() => apply(X, rule(DENY, 'a**b')), {
    message:
      'error matching source policy: failed to translate wildcard "a**b" to regexp: invalid wildcard: "**"',
  });
  assert.throws(() => apply(X, rule(DENY, '(', { matchType: REGEX })), {
    message: 'error matching source policy: error parsing regexp: missing closing ): `(`',
  });
  assert.throws(
    () => apply(X, rule(DENY, X, { constraints: [{ key: 'a', value: '*', condition: AttrMatch.MATCHES }] })),
    {
      message:
        'error matching source policy: invalid regex "*": error parsing regexp: missing argument to repetition operator: `*`',
    },
  );
  assert.throws(() => validatePolicy(Policy.fromPartial({ rules: [{ action: CONVERT }] })), {
    message: 'invalid nil selector in policy',
  });
});

test('expressions of a build share what they may take', () => {
  const rules = Array.from({ length: 2000 }, (_, i) => rule(DENY, `x{1000}${i}`, { matchType: REGEX }));
  assert.throws(() => apply(X, ...rules), /source policies have too many expressions/);
  const pins = Array.from({ length: 20_000 }, (_, i) => rule(DENY, `${X}@${i}`));
  assert.equal(apply(X, ...pins), X);
});

test('policies see images and repositories under their full names', () => {
  const name = (identifier: string, attrs = {}): string => normalizedSource({ identifier, attrs });
  assert.equal(name('docker-image://x'), 'docker-image://docker.io/library/x:latest');
  assert.equal(name('docker-image://X'), 'docker-image://X');
  assert.equal(name('https://example.com/x'), 'https://example.com/x');
  assert.equal(name('git://example.com/a.git#main:../abs'), 'git://example.com/a.git#main:abs');
  assert.equal(
    name('git://example.com/a.git', { 'git.fullurl': 'https://u@example.com/a.git' }),
    'git://example.com/a.git',
  );
  assert.equal(
    name('git://git@example.com/a.git#v1', { 'git.fullurl': 'git@example.com:a.git' }),
    'git://example.com/a.git#v1',
  );
});
