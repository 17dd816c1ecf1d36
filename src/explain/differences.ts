import type { Digest } from '../base/digest.ts';
import { splitFact } from './facts.ts';
import type { EndedStep, KeptBuild, KeptStep } from './kept.ts';
import { type Cause, cause } from './types.ts';

/** A step of the build that ended and the one it is compared with. */
export interface Pair {
  readonly now: EndedStep;
  readonly before: KeptStep;
  readonly build: { readonly args: readonly string[]; readonly steps: readonly EndedStep[] };
  readonly earlier: KeptBuild;
}

/** Content of an input that is another one now. */
export interface ContentChange {
  readonly before: string;
  readonly after: string;
  readonly input: EndedStep;
}

export interface Differences {
  readonly causes: readonly Cause[];
  readonly contents: readonly ContentChange[];
  /** Inputs that are other results now, with what they were. */
  readonly parents: readonly { readonly now: EndedStep; readonly before: KeptStep | undefined }[];
}

export function differences(pair: Pair): Differences {
  const { now, before, build, earlier } = pair;
  const causes = [...sourceCauses(now, before), ...factCauses(pair)];
  const contents: ContentChange[] = [];
  const parents: Differences['parents'][number][] = [];
  for (const [i, at] of now.inputs.entries()) {
    const input = build.steps[at];
    if (!input) continue;
    const content = now.contents[i] ?? '';
    const sameContent = content !== '' && before.contents.includes(content);
    if (sameContent || isSameResult(input, before, earlier)) continue;
    const known = before.contents[i] ?? '';
    const was = earlier.steps[before.inputs[i] ?? -1];
    if (content !== '' && known !== '') contents.push({ before: known, after: content, input });
    else parents.push({ now: input, before: was });
  }
  return { causes, contents, parents };
}

/** Whether an input's result stands where one of the earlier step's inputs stood. */
function isSameResult(input: EndedStep, before: KeptStep, earlier: KeptBuild): boolean {
  const keys = new Set(input.matches);
  return before.inputs.some((at) => earlier.steps[at]?.keys.some((key) => keys.has(key)) ?? false);
}

/** An image or repository: its name without the digest in it, and what that resolved to. */
function sourceCauses(now: KeptStep, before: KeptStep): Cause[] {
  const to = now.facts['source '];
  const from = before.facts['source '];
  if (to === undefined || from === undefined) return [];
  const [name, digest] = resolved(to, now.pin);
  const [oldName, oldDigest] = resolved(from, before.pin);
  const kind = /^(?:docker-image|oci-layout):/.test(to) ? 'base' : 'source';
  if (name !== oldName) return [cause(kind, { subject: name, old: oldName, new: name })];
  if (digest === oldDigest || digest === '' || oldDigest === '') return [];
  return [cause(kind, { subject: name, old: oldDigest, new: digest })];
}

function resolved(identifier: string, pin: string): [name: string, digest: string] {
  const image = /^(?:docker-image|oci-layout):\/\/([^@]*)(?:@(.*))?$/.exec(identifier);
  if (!image) return [identifier, pin];
  return [(image[1] ?? '').replace(/^docker\.io\/(?:library\/)?/, ''), image[2] ?? pin];
}

function factCauses({ now, before, build, earlier }: Pair): Cause[] {
  const args = new Set([...build.args, ...earlier.args]);
  const found: Cause[] = [];
  for (const key of new Set([...Object.keys(before.facts), ...Object.keys(now.facts)])) {
    const old = before.facts[key] ?? '';
    const value = now.facts[key] ?? '';
    if (old === value) continue;
    const { kind, subject } = splitFact(key);
    if (kind === 'source') continue;
    found.push(cause(kind === 'env' && args.has(subject) ? 'build-arg' : kind, { subject, old, new: value }));
  }
  return found;
}

/** Steps that look as they did: why there was nothing to be found. */
export function goneCause(now: EndedStep, before: KeptStep): Cause {
  if (now.lost !== undefined) return cause('damaged', { new: now.lost });
  if (before.end !== 'done') return cause('unfinished');
  return cause('pruned');
}

/** Name of the step that files come from, for people. */
export function placeOf(step: KeptStep): string {
  const source = step.facts['source '];
  if (source === undefined) return step.name;
  const local = /^local:\/\/(.*)$/.exec(source);
  if (!local) return source.replace(/^[a-z+-]+:\/\//, '');
  return local[1] === 'context' ? 'the build context' : `the folder ${local[1]}`;
}

export function parentCause(step: EndedStep): Cause {
  return cause('parent', { subject: step.name, vertex: step.vertex as Digest });
}
