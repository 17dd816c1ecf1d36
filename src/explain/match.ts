import type { KeptStep } from './kept.ts';
import { labelOf, type StepLabel, verbOf } from './label.ts';

export interface StepPlace {
  readonly index: number;
  /** It is the same instruction, not only one in the same place. */
  readonly same: boolean;
}

/** Which step of an earlier build each step of a build is, by index; and how much alike the two are, from 0 to 1. */
export interface StepMatch {
  readonly steps: ReadonlyMap<number, StepPlace>;
  readonly likeness: number;
}

interface Labelled {
  readonly index: number;
  readonly step: KeptStep;
  readonly label: StepLabel;
}

const sameRule = ({ step, label }: Labelled): string =>
  text(step.kind, label.platform, label.stage, plain(label.text));

/** Rules from the strictest to the loosest; steps that one has matched are out of the next. */
const RULES: readonly ((step: Labelled) => string)[] = [
  sameRule,
  ({ step, label }) => spot(step, label, `${label.stage} ${label.position}/${label.total}`),
  // Instructions were added or removed before it.
  ({ step, label }) => spot(step, label, `${label.stage} ${verbOf(label)}`),
  // The stage has another name or number.
  ({ step, label }) => text(step.kind, label.platform, plain(label.text)),
  // Built for several platforms only once.
  ({ step, label }) => text(step.kind, label.stage, plain(label.text)),
];
/** What a match by the rule of the same number says of how alike two builds are; 1 is the same instruction. */
const WEIGHTS = [1, 0.5, 0.25, 1, 1];

export function matchSteps(now: readonly KeptStep[], before: readonly KeptStep[]): StepMatch {
  const steps = new Map<number, StepPlace>();
  let open = labelled(now);
  let free = labelled(before);
  let alike = 0;
  for (const [i, rule] of RULES.entries()) {
    const places = new Map<string, Labelled[]>();
    for (const one of free) {
      const key = rule(one);
      if (key === '') continue;
      const place = places.get(key);
      if (place) place.push(one);
      else places.set(key, [one]);
    }
    for (const place of places.values()) place.reverse();
    const taken = new Set<number>();
    const weight = WEIGHTS[i] ?? 0;
    open = open.filter((one) => {
      const found = places.get(rule(one))?.pop();
      if (!found) return true;
      steps.set(one.index, { index: found.index, same: weight === 1 });
      taken.add(found.index);
      if (counts(one)) alike += weight;
      return false;
    });
    free = free.filter(({ index }) => !taken.has(index));
  }
  // Steps of another build that this one waited for stand beside its own: all are the same.
  const known = new Map(labelled(before).map((one) => [sameRule(one), one.index]));
  for (const one of open) {
    const index = known.get(sameRule(one));
    if (index !== undefined) steps.set(one.index, { index, same: true });
  }
  const all = Math.max(labelled(now).filter(counts).length, 1);
  return { steps, likeness: alike / all };
}

function labelled(steps: readonly KeptStep[]): Labelled[] {
  return steps.map((step, index) => ({ index, step, label: labelOf(step.name, step.code) }));
}

/** What every build has says nothing. */
function counts({ step, label }: Labelled): boolean {
  return !step.name.startsWith('[internal]') && label.text !== '';
}

/** Bases change their digest and stay the same step. */
function plain(name: string): string {
  return name.replace(/@sha256:[0-9a-f]{64}/g, '');
}

function text(...parts: string[]): string {
  return parts.join('\0');
}

/** Only steps that are counted have a place. */
function spot(step: KeptStep, label: StepLabel, place: string): string {
  return label.position === 0 ? '' : text(step.kind, label.platform, place);
}
