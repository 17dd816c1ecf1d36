import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { type Definition, Op } from './ops.ts';

/** True when it has changed the op that it was given. */
export type ChangeSource = (op: Op) => Promise<boolean>;

interface Step {
  readonly bytes: Uint8Array;
  readonly op: Op;
  changed: boolean;
}

/**
 * The definition with other sources (FEATURES D23): `change` sees every source op, all at the same time; the
 * digests of what stands on a changed one follow. What else is wrong with the definition stays for its parser.
 */
export async function rewriteSources(definition: Definition, change: ChangeSource): Promise<Definition> {
  const steps = new Map<Digest, Step>();
  for (const bytes of definition.def)
    steps.set(digestOf(bytes), { bytes, op: decode(bytes), changed: false });
  const sources = [...steps.values()].filter(({ op }) => op.op?.$case === 'source');
  await Promise.all(
    sources.map(async (step) => {
      step.changed = await change(step.op);
    }),
  );
  if (!sources.some(({ changed }) => changed)) return definition;
  const moved = new Map<string, Digest>();
  const def = inputsFirst(steps).map(([digest, step]) => {
    for (const input of step.op.inputs) {
      const now = moved.get(input.digest);
      if (now === undefined || now === input.digest) continue;
      input.digest = now;
      step.changed = true;
    }
    const bytes = step.changed ? Op.encode(step.op).finish() : step.bytes;
    moved.set(digest, digestOf(bytes));
    return bytes;
  });
  const follow = <T>(map: Readonly<Record<string, T>>): Record<string, T> =>
    Object.fromEntries(Object.entries(map).map(([digest, value]) => [moved.get(digest) ?? digest, value]));
  const { Source: source } = definition;
  return {
    def,
    metadata: follow(definition.metadata),
    Source: source && { ...source, locations: follow(source.locations) },
  };
}

function decode(bytes: Uint8Array): Op {
  try {
    return Op.decode(bytes);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse llb proto op');
  }
}

/** Without recursion: chains are long. The last one, which names the result, stays last. */
function inputsFirst(steps: ReadonlyMap<Digest, Step>): [Digest, Step][] {
  const ordered = new Map<Digest, Step>();
  const open = new Set<Digest>();
  for (const root of steps.keys()) {
    const stack: Digest[] = [root];
    for (let digest = stack.at(-1); digest !== undefined; digest = stack.at(-1)) {
      const step = steps.get(digest);
      const needed = open.has(digest) ? [] : (step?.op.inputs ?? []).map((input) => input.digest as Digest);
      const missing = needed.filter((input) => steps.has(input) && !ordered.has(input));
      open.add(digest);
      if (missing.length > 0) stack.push(...missing);
      else {
        stack.pop();
        if (step) ordered.set(digest, step);
      }
    }
  }
  return [...ordered];
}
