import { BuildError } from '../base/errors.ts';
import type { SourceOp } from '../llb/ops.ts';
import { type Budget, GoRegExp } from '../match/go-regexp.ts';
import {
  type AttrConstraint,
  AttrMatch,
  MatchType,
  type Policy,
  PolicyAction,
  type Rule,
} from '../pb/sourcepolicy.ts';

/** Conversions of one source, at most. */
const MAX_CONVERSIONS = 20;
/** Steps that all expressions of a build's policies may take on the main thread: about two seconds. */
const MAX_MATCH_STEPS = 50_000_000;

/** What an instruction of an expression, which is kept, counts as. */
const STEPS_OF_INSTRUCTION = 100;

/** Expressions by their text, and the steps they may still take together. */
export class PatternCache {
  readonly #byText = new Map<string, GoRegExp>();
  readonly budget: Budget = { left: MAX_MATCH_STEPS };

  regexp(text: string): GoRegExp {
    const known = this.#byText.get(text);
    if (known) return known;
    const made = new GoRegExp(text);
    this.budget.left -= made.size * STEPS_OF_INSTRUCTION;
    if (this.budget.left < 0) throw new BuildError('source policies have too many expressions');
    this.#byText.set(text, made);
    return made;
  }

  /** Of a text where each `*` stands for anything, which becomes a group. */
  wildcard(text: string): GoRegExp {
    const quoted = text.replace(/[\\.+*?()|[\]{}^$]/g, '\\$&');
    if (quoted.includes('\\*\\*')) {
      const name = JSON.stringify(text);
      throw new BuildError(`failed to translate wildcard ${name} to regexp: invalid wildcard: "**"`);
    }
    return this.regexp(`^${quoted.replaceAll('\\*', '(.*)')}$`);
  }
}

/** @throws BuildError for a policy that cannot be read */
export function validatePolicy(policy: Policy): void {
  if (policy.rules.some(({ selector }) => !selector)) throw new BuildError('invalid nil selector in policy');
}

/**
 * Makes of a source what the policies want (FEATURES I23): each in turn, and all again after each conversion.
 * True when that is something else.
 * @throws BuildError for a source that is denied, a rule that cannot be read, or conversions without end
 */
export function applyRules(source: SourceOp, policies: readonly Policy[], patterns: PatternCache): boolean {
  for (let conversions = 0; conversions <= MAX_CONVERSIONS; conversions++)
    if (!policies.some((policy) => applyPolicy(source, policy, patterns))) return conversions > 0;
  throw new BuildError('too many mutations on a single source: too many operations');
}

/** True when a rule has converted the source; of rules that allow and deny the last one decides. */
function applyPolicy(source: SourceOp, { rules }: Policy, patterns: PatternCache): boolean {
  let denied = false;
  for (const rule of rules) {
    if (!isMatch(source, rule, patterns)) continue;
    if (rule.action === PolicyAction.ALLOW) denied = false;
    else if (rule.action === PolicyAction.DENY) denied = true;
    else if (rule.action === PolicyAction.CONVERT) {
      if (convert(source, rule, patterns)) return true;
    } else {
      const id = rule.selector?.identifier ?? '';
      const ref = JSON.stringify(source.identifier);
      throw new BuildError(`source policy: rule ${rule.action} ${id}: unknown type ${ref}`);
    }
  }
  if (denied)
    throw new BuildError(
      `source ${JSON.stringify(source.identifier)} denied by policy: source denied by policy`,
    );
  return false;
}

function isMatch({ identifier, attrs }: SourceOp, { selector }: Rule, patterns: PatternCache): boolean {
  if (!selector) throw new BuildError('invalid nil selector in policy');
  try {
    if (!selector.constraints.every((constraint) => holds(constraint, attrs, patterns))) return false;
    if (selector.identifier === identifier) return true;
    switch (selector.matchType) {
      case MatchType.EXACT:
        return false;
      case MatchType.REGEX:
        return patterns.regexp(selector.identifier).test(identifier, patterns.budget);
      case MatchType.WILDCARD:
        // A list of pinned sources is long, and has no wildcards.
        if (!selector.identifier.includes('*')) return false;
        return patterns.wildcard(selector.identifier).test(identifier, patterns.budget);
      default:
        throw new BuildError(`unknown match type: ${selector.matchType}`);
    }
  } catch (error) {
    throw BuildError.wrap(error, 'error matching source policy');
  }
}

function holds(constraint: AttrConstraint, attrs: SourceOp['attrs'], patterns: PatternCache): boolean {
  const { key, value, condition } = constraint;
  const real = Object.hasOwn(attrs, key) ? attrs[key]! : '';
  if (condition === AttrMatch.EQUAL) return real === value;
  if (condition === AttrMatch.NOTEQUAL) return real !== value;
  if (condition !== AttrMatch.MATCHES) throw new BuildError(`unknown attr condition: ${condition}`);
  try {
    return patterns.regexp(value).test(real, patterns.budget);
  } catch (error) {
    throw BuildError.wrap(error, `invalid regex ${JSON.stringify(value)}`);
  }
}

/** True when that changes anything. */
function convert(source: SourceOp, { selector, updates }: Rule, patterns: PatternCache): boolean {
  if (!updates) throw new BuildError('error mutating source policy: missing destination for convert rule');
  const { identifier = '', matchType } = selector ?? {};
  const template = updates.identifier || identifier;
  const wanted = ((): string => {
    if (matchType === MatchType.EXACT) return template;
    try {
      const pattern =
        matchType === MatchType.REGEX ? patterns.regexp(identifier) : patterns.wildcard(identifier);
      return pattern.replaceAll(source.identifier, template, patterns.budget);
    } catch (error) {
      throw BuildError.wrap(error, 'error mutating source policy: error formatting destination');
    }
  })();
  let changed = wanted !== '' && wanted !== source.identifier;
  if (changed) source.identifier = wanted;
  for (const [key, value] of Object.entries(updates.attrs)) {
    if (source.attrs[key] === value) continue;
    source.attrs[key] = value;
    changed = true;
  }
  return changed;
}
