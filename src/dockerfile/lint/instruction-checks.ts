import { cleanPath } from '../../llb/gopath.ts';
import type { PatternMatcher } from '../../match/patterns.ts';
import type { Location } from '../location.ts';
import type { Variables } from '../expand.ts';
import { quote } from '../text.ts';
import type { Linter } from './linter.ts';
import { rules } from './rules.ts';

const SECRET = /(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)/i;
const NO_SECRET = /(?:_|^)(?:public|file|version)(?:_|$)/i;
/** Patterns of an ignore file that leave nothing of the context. */
const EVERYTHING: readonly string[] = ['*', '**', '**/*'];

/** Variables should be set, or at least declared, before they are used. */
export function checkVariables(
  missing: ReadonlySet<string>,
  variables: Variables,
  declared: (name: string) => boolean,
  location: Location,
  lint: Linter,
): void {
  for (const name of missing) {
    if (declared(name)) continue;
    lint.report(rules.undefinedVar(name, lint.suggest(name, variables.keys())), location);
  }
}

export function checkSecretName(word: 'ARG' | 'ENV', key: string, location: Location, lint: Linter): void {
  if (SECRET.test(key) && !NO_SECRET.test(key))
    lint.report(rules.secretsUsedInArgOrEnv(word, quote(key)), location);
}

/** A source should not be left out by the ignore file. One that takes paths back is not judged. */
export function checkIgnored(
  source: string,
  verb: 'Add' | 'Copy',
  ignore: PatternMatcher,
  location: Location,
  lint: Linter,
): void {
  if (ignore.hasExclusions) return;
  const path = cleanPath(source);
  const isRoot = path === '.' || path === '/';
  if (isRoot && !ignore.patterns.some(({ text }) => EVERYTHING.includes(text))) return;
  if (matches(path, ignore)) lint.report(rules.copyIgnoredFile(verb, quote(path)), location);
}

function matches(path: string, ignore: PatternMatcher): boolean {
  try {
    return ignore.matchesOrParentMatches(path);
  } catch {
    return false; // the context itself fails on the bad pattern
  }
}
