import { parsePlatform, type Platform } from '../../oci/platform.ts';
import { formatPlatformFull, normalizePlatform } from '../../oci/platform.ts';
import type { Location } from '../location.ts';
import type { Expansion, Variables } from '../expand.ts';
import type { Stage } from '../instructions/types.ts';
import { quote } from '../text.ts';
import type { Linter } from './linter.ts';
import { rules } from './rules.ts';

const TARGET = 'TARGETPLATFORM';

/** Variables of a FROM should be global ARGs. `declared` are ARGs without value too. */
export function checkFromArgs(
  missing: ReadonlySet<string>,
  args: Variables,
  declared: readonly string[],
  location: Location,
  lint: Linter,
): void {
  const known = new Set([...declared, ...args.keys()]);
  for (const name of missing) {
    if (known.has(name)) continue;
    lint.report(rules.undefinedArgInFrom(name, lint.suggest(name, [...known])), location);
  }
}

/** `--platform` should say something that the file can not know by itself. */
export function checkPlatform(stage: Stage, value: Expansion, args: Variables, lint: Linter): void {
  const { used, missing, text } = value;
  if (missing.size > 0) return;
  if (used.size === 0) checkConstant(stage, text, lint);
  else if (used.size === 1 && used.has(TARGET) && text === args.get(TARGET))
    lint.report(rules.redundantTargetPlatform(stage.platform), stage.location);
}

/** A stage that is named after its platform means it. */
function checkConstant(stage: Stage, text: string, lint: Linter): void {
  let platform: Platform;
  try {
    platform = parsePlatform(text);
  } catch {
    return; // the build itself fails for the same reason
  }
  if (stage.name.includes(platform.os) || stage.name.includes(platform.architecture)) return;
  lint.report(rules.fromPlatformFlagConstDisallowed(quote(text)), stage.location);
}

/** The image that was found should run on the platform that was asked for. */
export function checkBasePlatform(
  name: string,
  expected: Platform,
  actual: Platform,
  location: Location,
  lint: Linter,
): void {
  if (expected.os === actual.os && expected.architecture === actual.architecture) return;
  const show = (platform: Platform) => quote(formatPlatformFull(normalizePlatform(platform)));
  lint.report(rules.invalidBaseImagePlatform(name, show(expected), show(actual)), location);
}
