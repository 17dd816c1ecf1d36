import { BuildError } from '../base/errors.ts';
import { AttrMatch, MatchType, Policy, PolicyAction } from '../pb/sourcepolicy.ts';
import type { SourcePolicy } from './source-policy-types.ts';

export function policyMessage(policy: SourcePolicy): Policy {
  return policyFromJson(policy);
}

/**
 * Reads a policy as Go's encoding/json does: names of fields in any case, fields that it does not know ignored.
 * @throws BuildError that names the place of what is wrong
 */
export function policyFromJson(json: unknown): Policy {
  const policy = fieldsOf(json, 'policy');
  return Policy.fromPartial({
    version: integer(policy('version'), 'version'),
    rules: list(policy('rules'), 'rules').map((rule, index) => ruleFromJson(rule, `rules[${index}]`)),
  });
}

function ruleFromJson(json: unknown, at: string): Policy['rules'][number] {
  if (json === null) throw wrong(at, 'a rule', json);
  const rule = fieldsOf(json, at);
  const [selector, updates] = [rule('selector') ?? undefined, rule('updates') ?? undefined];
  return {
    action: oneOf(rule('action'), PolicyAction, `${at}.action`),
    selector: selector === undefined ? undefined : selectorFromJson(selector, `${at}.selector`),
    updates: updates === undefined ? undefined : updatesFromJson(updates, `${at}.updates`),
  };
}

function selectorFromJson(json: unknown, at: string): NonNullable<Policy['rules'][number]['selector']> {
  const selector = fieldsOf(json, at);
  const constraints = list(selector('constraints'), `${at}.constraints`);
  return {
    identifier: text(selector('identifier'), `${at}.identifier`),
    matchType: oneOf(selector('match_type'), MatchType, `${at}.match_type`),
    constraints: constraints.map((one, index) => {
      const where = `${at}.constraints[${index}]`;
      const constraint = fieldsOf(one, where);
      return {
        key: text(constraint('key'), `${where}.key`),
        value: text(constraint('value'), `${where}.value`),
        condition: oneOf(constraint('condition'), AttrMatch, `${where}.condition`),
      };
    }),
  };
}

function updatesFromJson(json: unknown, at: string): NonNullable<Policy['rules'][number]['updates']> {
  const updates = fieldsOf(json, at);
  const attrs = updates('attrs') ?? {};
  if (!isObject(attrs)) throw wrong(`${at}.attrs`, 'an object', attrs);
  return {
    identifier: text(updates('identifier'), `${at}.identifier`),
    attrs: Object.fromEntries(
      Object.entries(attrs).map(([key, value]) => [key, text(value, `${at}.attrs.${key}`)]),
    ),
  };
}

function isObject(json: unknown): json is Record<string, unknown> {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}

/** Gives fields by their name in small letters. */
function fieldsOf(json: unknown, at: string): (name: string) => unknown {
  if (!isObject(json)) throw wrong(at, 'an object', json);
  const fields = new Map(Object.entries(json).map(([name, value]) => [name.toLowerCase(), value]));
  return (name) => fields.get(name);
}

function list(json: unknown, at: string): readonly unknown[] {
  if (json === undefined || json === null) return [];
  if (!Array.isArray(json)) throw wrong(at, 'a list', json);
  return json;
}

function text(json: unknown, at: string): string {
  if (json === undefined || json === null) return '';
  if (typeof json !== 'string') throw wrong(at, 'a text', json);
  return json;
}

function integer(json: unknown, at: string): bigint {
  if (json === undefined || json === null) return 0n;
  if (!Number.isSafeInteger(json)) throw wrong(at, 'an integer', json);
  return BigInt(json as number);
}

/** A value by its name or number. */
function oneOf<T extends number>(json: unknown, values: Readonly<Record<string, T>>, at: string): T {
  const names = Object.keys(values).filter((name) => values[name]! >= 0);
  const name = names.find((one) => one === json || values[one] === (json ?? 0));
  if (name === undefined) throw wrong(at, names.join(', '), json);
  return values[name]!;
}

function wrong(at: string, wanted: string, json: unknown): BuildError {
  return new BuildError(`${at} must be ${wanted}, not ${JSON.stringify(json)}`);
}
