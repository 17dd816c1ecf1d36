import { parseReference } from '../../oci/reference.ts';
import type { Node, ParseWarning } from '../ast.ts';
import { nodeLocation } from '../ast.ts';
import type { Location } from '../location.ts';
import { lines } from '../location.ts';
import { wordsOf } from '../instructions/request.ts';
import type { Stage } from '../instructions/types.ts';
import { lower, quote, upper } from '../text.ts';
import type { Linter } from './linter.ts';
import { rules } from './rules.ts';

const RESERVED: readonly string[] = ['context', 'scratch'];

const isLower = (text: string): boolean => text === lower(text);
const isUpper = (text: string): boolean => text === upper(text);

export function checkContinuations(warnings: readonly ParseWarning[], lint: Linter): void {
  for (const { line } of warnings) lint.report(rules.noEmptyContinuation(), lines(line, line));
}

/** Rules about one instruction as it is written. */
export function checkNode(node: Node, fileLint: Linter): void {
  const lint = fileLint.withComments(node.comments);
  const location = nodeLocation(node);
  const name = lower(node.name);
  if (name === 'maintainer') lint.report(rules.maintainerDeprecated(), location);
  if (name === 'from') checkFrom(node, lint, location);
}

function checkFrom(node: Node, lint: Linter, location: Location): void {
  const words = wordsOf(node);
  const [, as, stageName = ''] = words;
  if (words.length === 3 && !isLower(stageName)) lint.report(rules.stageNameCasing(stageName), location);
  if (words.length < 3 || as === undefined) return;
  // A FROM in mixed case is a finding of its own.
  const fits = isLower(node.name) ? isLower(as) : isUpper(as) || !isUpper(node.name);
  if (!fits) lint.report(rules.fromAsCasing(node.name, as), location);
}

/** The comment right above a definition should describe one of `names`. */
export function checkDescription(
  word: 'FROM' | 'ARG',
  names: readonly string[],
  node: Node,
  fileLint: Linter,
): void {
  const [described] = node.comments.at(-1)?.split(' ') ?? [];
  const [first] = names;
  if (described === undefined || first === undefined || names.includes(described)) return;
  const example = names.length > 1 ? '<arg_key>' : first;
  fileLint
    .withComments(node.comments)
    .report(rules.invalidDefinitionDescription(word, example), nodeLocation(node));
}

/** Rules about all stages together. */
export function checkStages(stages: readonly Stage[], lint: Linter): void {
  checkStageNames(stages, lint);
  checkCasing(stages, lint);
}

function checkStageNames(stages: readonly Stage[], lint: Linter): void {
  const seen = new Set<string>();
  for (const { name, location } of stages) {
    if (name === '') continue;
    if (RESERVED.includes(name)) lint.report(rules.reservedStageName(quote(name)), location);
    if (seen.has(name)) lint.report(rules.duplicateStageName(quote(name)), location);
    seen.add(name);
  }
}

/** All instruction words should be written like most of them; upper case when both are as frequent. */
function checkCasing(stages: readonly Stage[], lint: Linter): void {
  const words = stages.flatMap(({ word, location, instructions }) => [
    { word, location },
    ...instructions.map((instruction) => ({ word: instruction.name, location: instruction.location })),
  ]);
  const lower = words.filter(({ word }) => isLower(word)).length;
  const upper = words.filter(({ word }) => isUpper(word) && !isLower(word)).length;
  const [fits, casing] =
    lower > upper ? ([isLower, 'lowercase'] as const) : ([isUpper, 'uppercase'] as const);
  for (const { word, location } of words) {
    if (!fits(word)) lint.report(rules.consistentInstructionCasing(word, casing), location);
  }
}

/** Bases should be names also when the client gives no build arguments. `expandBase` uses defaults only. */
export function checkDefaultBases(
  stages: readonly Stage[],
  expandBase: (baseName: string) => string,
  lint: Linter,
): void {
  try {
    for (const { baseName, location } of stages) {
      if (!isReference(expandBase(baseName))) lint.report(rules.invalidDefaultArgInFrom(baseName), location);
    }
  } catch {
    // the build itself fails for the same reason
  }
}

function isReference(text: string): boolean {
  try {
    parseReference(text);
    return true;
  } catch {
    return false;
  }
}
