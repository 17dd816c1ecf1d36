import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { field, type GoField, goMap, goStruct, optional } from '../base/gojson.ts';
import { locationsJson, opJson } from '../llb/op-json.ts';
import { type Definition, Op, type SourceInfo } from '../llb/ops.ts';

/** A graph as provenance shows it: steps by number, inputs first. */
export interface StepList {
  readonly steps: readonly Step[];
  /** Number of the step that a vertex is. */
  readonly numbers: ReadonlyMap<Digest, number>;
}

interface Step {
  readonly id: string;
  readonly op: Op;
  readonly inputs: readonly string[];
  readonly digest: Digest;
}

/** Attributes of sources that differ from build to build. */
const SESSION_ATTRS: readonly string[] = ['local.session', 'local.unique'];

/** The steps of a definition; none of an empty one. @throws BuildError for what is no definition */
export function stepsOf(definition: Definition | undefined): StepList {
  if (!definition || definition.def.length === 0) return { steps: [], numbers: new Map() };
  const ops = new Map<Digest, Op>();
  let last = '' as Digest;
  for (const bytes of definition.def) {
    last = digestOf(bytes);
    ops.set(last, Op.decode(bytes));
  }
  const root = ops.get(last)!;
  if (root.op) throw new BuildError(`invalid last vertex: ${root.op.$case}`);
  if (root.inputs.length !== 1) throw new BuildError(`invalid last vertex inputs: ${root.inputs.length}`);
  const order = inputsFirst(last, ops);
  const numbers = new Map(order.map((digest, i) => [digest, i]));
  const steps = order.map((digest, i) => {
    const op = ops.get(digest)!;
    const inputs = op.inputs.map((input) => `${stepId(numbers.get(input.digest as Digest)!)}:${input.index}`);
    return { id: stepId(i), op: withoutSession({ ...op, inputs: [] }), inputs, digest };
  });
  return { steps, numbers };
}

/** Without recursion: graphs may be deep. */
function inputsFirst(root: Digest, ops: ReadonlyMap<Digest, Op>): Digest[] {
  const order: Digest[] = [];
  const seen = new Set<Digest>();
  const enter = (digest: Digest) => {
    const op = ops.get(digest);
    if (!op) throw new BuildError(`failed to find input ${digest}`);
    seen.add(digest);
    return { digest, inputs: op.inputs, next: 0 };
  };
  const stack = [enter(root)];
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    const input = top.inputs[top.next++];
    if (!input) {
      order.push(top.digest);
      stack.pop();
    } else if (!seen.has(input.digest as Digest)) stack.push(enter(input.digest as Digest));
  }
  return order;
}

function withoutSession(op: Op): Op {
  if (op.op?.$case !== 'source') return op;
  const { value } = op.op;
  const attrs = Object.fromEntries(
    Object.entries(value.attrs).filter(([key]) => !SESSION_ATTRS.includes(key)),
  );
  return { ...op, op: { $case: 'source', value: { ...value, attrs } } };
}

export function stepId(number: number): string {
  return `step${number}`;
}

/** What the executor has measured of steps, by vertex, as JSON values. */
export type StepUsage = ReadonlyMap<Digest, unknown>;

function stepJson(usage: StepUsage | undefined) {
  return goStruct<Step>(
    optional('id', (s) => s.id),
    optional('op', (s) => opJson(s.op)),
    optional('inputs', (s) => s.inputs),
    optional('resourceUsage', (s) => usage?.get(s.digest)),
  );
}

function listFields(usage: StepUsage | undefined): GoField<StepList>[] {
  return [
    optional('llbDefinition', (list) => list.steps.map(stepJson(usage))),
    optional('digestMapping', ({ numbers }) =>
      goMap(Object.fromEntries([...numbers].map(([digest, number]) => [digest, stepId(number)]))),
    ),
  ];
}

/** `{llbDefinition, digestMapping}` */
export function buildConfigJson(list: StepList, usage?: StepUsage): unknown {
  return goStruct<StepList>(...listFields(usage))(list);
}

/** The user's files and where each step stands in them; undefined when there are none. */
export function sourceJson(definition: Definition, { numbers }: StepList, usage?: StepUsage): unknown {
  const source = definition.Source;
  if (!source || source.infos.length === 0) return undefined;
  const locations = Object.entries(source.locations).flatMap(([digest, found]) => {
    const number = numbers.get(digest as Digest);
    return number === undefined ? [] : [[stepId(number), locationsJson(found)] as const];
  });
  return goStruct<typeof source>(
    optional('locations', () => goMap(Object.fromEntries(locations))),
    field('infos', ({ infos }) => infos.map((info) => infoJson(info, usage))),
  )(source);
}

function infoJson(info: SourceInfo, usage: StepUsage | undefined): unknown {
  const list = stepsOf(info.definition);
  const file = goStruct<SourceInfo>(
    optional('filename', (i) => i.filename),
    optional('language', (i) => i.language),
    optional('data', (i) => i.data),
  )(info);
  return { ...file, ...goStruct<StepList>(...listFields(usage))(list) };
}
