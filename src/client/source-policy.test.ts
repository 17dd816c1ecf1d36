import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AttrMatch, MatchType, PolicyAction } from '../pb/sourcepolicy.ts';
import { policyFromJson } from './source-policy.ts';

test('a policy is read with names or numbers of its values', () => {
  const policy = policyFromJson({
    version: 1,
    comment: 'ignored',
    rules: [
      { action: 'DENY', selector: { identifier: '*' } },
      {
        Action: 2,
        selector: {
          identifier: 'x',
          match_type: 'REGEX',
          constraints: [{ key: 'k', value: 'v', condition: 'MATCHES' }],
        },
        updates: { identifier: 'y', attrs: { a: 'b' } },
      },
      { selector: null },
    ],
  });
  assert.deepEqual(policy, {
    version: 1n,
    rules: [
      {
        action: PolicyAction.DENY,
        selector: { identifier: '*', matchType: MatchType.WILDCARD, constraints: [] },
        updates: undefined,
      },
      {
        action: PolicyAction.CONVERT,
        selector: {
          identifier: 'x',
          matchType: MatchType.REGEX,
          constraints: [{ key: 'k', value: 'v', condition: AttrMatch.MATCHES }],
        },
        updates: { identifier: 'y', attrs: { a: 'b' } },
      },
      { action: PolicyAction.ALLOW, selector: undefined, updates: undefined },
    ],
  });
});

test('what is wrong with a policy is told with its place', () => {
  const wrong: readonly (readonly [unknown, string])[] = [
    [[], 'policy must be an object, not []'],
    [{ version: '1' }, 'version must be an integer, not "1"'],
    [{ rules: {} }, 'rules must be a list, not {}'],
    [{ rules: [null] }, 'rules[0] must be a rule, not null'],
    [{ rules: [{ action: 'deny' }] }, 'rules[0].action must be ALLOW, DENY, CONVERT, not "deny"'],
    [{ rules: [{ action: -1 }] }, 'rules[0].action must be ALLOW, DENY, CONVERT, not -1'],
    [{ rules: [{ selector: { identifier: 1 } }] }, 'rules[0].selector.identifier must be a text, not 1'],
    [{ rules: [{ updates: { attrs: { a: 1 } } }] }, 'rules[0].updates.attrs.a must be a text, not 1'],
  ];
  for (const [json, message] of wrong) assert.throws(() => policyFromJson(json), { message });
});
