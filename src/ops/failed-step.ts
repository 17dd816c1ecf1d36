import { randomBytes } from 'node:crypto';
import type { ImmutableRef, MutableRef } from '../cache/ref.ts';
import type { ExecOp } from '../llb/ops.ts';
import type { Leftover, OpContext } from '../solver/types.ts';
import { type PreparedMounts, releaseAll } from './exec-mounts.ts';

const ID_BYTES = 16;

/** Which part of a step failed, where it has parts: an action of a file op, an input whose content was looked at. */
export interface FailedPart {
  readonly kind: 'file' | 'cache';
  readonly index: number;
}

type Trees = readonly (ImmutableRef | null)[];

/** The trees of a step as they were when it failed, by ids that clients know them by (FEATURES E23, I15). */
export class FailedStep implements Leftover {
  /** One for each mount of an exec, each input of a file op, or the one input whose content counts; '' for none. */
  readonly inputIds: readonly string[];
  /** One for each mount of an exec, or each action of a file op. */
  readonly mountIds: readonly string[];
  readonly part: FailedPart | undefined;
  readonly #trees = new Map<string, ImmutableRef>();

  /** Takes over the trees; one may come several times. */
  constructor(inputs: Trees, mounts: Trees, part?: FailedPart) {
    const ids = new Map<ImmutableRef, string>();
    const idOf = (tree: ImmutableRef | null): string => {
      if (!tree) return '';
      const id = ids.get(tree) ?? randomBytes(ID_BYTES).toString('hex');
      ids.set(tree, id);
      this.#trees.set(id, tree);
      return id;
    };
    this.inputIds = inputs.map(idOf);
    this.mountIds = mounts.map(idOf);
    this.part = part;
  }

  /** Still owned by this object; undefined once it is released. */
  tree(id: string): ImmutableRef | undefined {
    return this.#trees.get(id);
  }

  trees(): Iterable<ImmutableRef> {
    return this.#trees.values();
  }

  async release(): Promise<void> {
    const trees = [...this.#trees.values()];
    this.#trees.clear();
    await releaseAll(trees.map((tree) => () => tree.release()));
  }
}

/**
 * Hands the trees of a failed exec to the solver, where a job asks for them, or gives them back. `prepared` is
 * undefined when its mounts could not be made. Never throws: the step's own error says more.
 */
export async function leaveExec(
  { mounts: asked }: ExecOp,
  inputs: Trees,
  prepared: PreparedMounts | undefined,
  { keeper, signal }: OpContext,
): Promise<void> {
  const made = [...(prepared?.outputs ?? []), ...(prepared?.actives ?? [])];
  const keep = signal.aborted ? undefined : keeper?.();
  if (!keep) {
    await releaseAll(
      made.map(
        ({ ref }) =>
          () =>
            ref.release(),
      ),
    );
    return;
  }
  const before = asked.map(({ input }) => inputs[Number(input)]?.clone() ?? null);
  const after = [...before];
  for (const tree of made) {
    const isStub = 'stubs' in tree && tree.stubs;
    const left = isStub ? await tree.ref.release().then(() => null) : await present(tree.ref);
    if (left) after[tree.mountIndex] = left;
  }
  keep(new FailedStep(before, after));
}

/** The tree as it is now; null, with the tree given back, when that cannot be had, as on a full disk. */
export async function present(ref: ImmutableRef | MutableRef): Promise<ImmutableRef | null> {
  if (ref.kind === 'immutable') return ref;
  try {
    return await ref.commit({ passing: true });
  } catch {
    await ref.release().catch(() => {}); // ended by the attempt
    return null;
  }
}
