import { BuildError, invalidArgument } from '../base/errors.ts';
import type { ImmutableRef, MutableRef, RefManager, RefMounts } from '../cache/ref.ts';
import type { ChownOpt, FileAction, FileOp, UserOpt } from '../llb/ops.ts';
import { FailedStep, present } from './failed-step.ts';
import type { CacheMap, Op, OpContext, PlaceRequest } from '../solver/types.ts';

/** Trees an action works on, as paths of mounted directories. */
export interface FileActionTrees {
  /** Written to. */
  readonly target: string;
  /** Read from by a copy; an empty directory when the copy has no source. */
  readonly source: string | undefined;
  /** Root whose /etc/passwd names the owner's user. */
  readonly userRoot: string | undefined;
  readonly groupRoot: string | undefined;
}

export interface FileOpServices {
  readonly refs: RefManager;
  /** Runs one action in a worker. */
  readonly runAction: (action: FileAction, trees: FileActionTrees, signal: AbortSignal) => Promise<void>;
  /** Makes mounts reachable as a directory. */
  readonly mountLocally: (view: RefMounts) => Promise<MountedTree>;
  readonly cacheMap: (op: FileOp) => CacheMap<ImmutableRef>;
  readonly acquire: (place: PlaceRequest) => Promise<Disposable>;
  readonly description: string;
}

export interface MountedTree {
  readonly path: string;
  release(): Promise<void>;
}

/** File actions on trees (FEATURES D10-D13), each on the output of another or on an input. */
export class FileOpRunner implements Op<ImmutableRef> {
  readonly #op: FileOp;
  readonly #services: FileOpServices;

  constructor(op: FileOp, services: FileOpServices) {
    this.#op = op;
    this.#services = services;
  }

  async cacheMap(): Promise<{ map: CacheMap<ImmutableRef>; done: boolean }> {
    return { map: this.#services.cacheMap(this.#op), done: true };
  }

  acquire(place: PlaceRequest): Promise<Disposable> {
    return this.#services.acquire(place);
  }

  async exec(
    inputs: readonly (ImmutableRef | null)[],
    context: OpContext,
  ): Promise<readonly (ImmutableRef | null)[]> {
    checkIndexes(this.#op, inputs.length);
    await using run = new FileRun(this.#op, inputs, this.#services, context);
    for (const index of this.#op.actions.keys()) {
      try {
        await run.act(index);
      } catch (error) {
        await run.leave(index);
        throw error;
      }
    }
    return await run.outputs(); // awaited: the trees are given back right after
  }
}

/** Each output is given by one action, inputs are there, and none waits for a later action. */
function checkIndexes({ actions }: FileOp, inputs: number): void {
  const outputs = new Set<bigint>();
  for (const [i, action] of actions.entries()) {
    const limit = BigInt(inputs + i);
    for (const [name, index] of [
      ['input', action.input],
      ['secondary input', action.secondaryInput],
    ] as const) {
      if (index < -1n || index >= limit)
        throw invalidArgument(`invalid ${name} index ${index} of file action ${i}`);
    }
    if (action.output < -1n)
      throw invalidArgument(`invalid output index ${action.output} of file action ${i}`);
    if (action.output >= 0n && outputs.has(action.output))
      throw invalidArgument(`duplicate output ${action.output}`);
    if (action.output >= 0n) outputs.add(action.output);
  }
  if (outputs.size === 0) throw invalidArgument('no outputs specified');
  for (let i = 0n; i < outputs.size; i++) {
    if (!outputs.has(i)) throw invalidArgument(`missing output index ${i}`);
  }
}

/** What an action left behind: a tree still open for its one consumer, or a committed one for several. */
interface ActionResult {
  mutable: MutableRef | undefined;
  /** Mount of `mutable`, kept for the next action of a chain. */
  tree: MountedTree | undefined;
  committed: ImmutableRef | undefined;
}

class FileRun implements AsyncDisposable {
  readonly #op: FileOp;
  readonly #inputs: readonly (ImmutableRef | null)[];
  readonly #services: FileOpServices;
  readonly #context: OpContext;
  readonly #results: ActionResult[] = [];
  /** How often the output of each action is used by others. */
  readonly #uses: number[];

  constructor(
    op: FileOp,
    inputs: readonly (ImmutableRef | null)[],
    services: FileOpServices,
    context: OpContext,
  ) {
    this.#op = op;
    this.#inputs = inputs;
    this.#services = services;
    this.#context = context;
    this.#uses = op.actions.map(() => 0);
    for (const action of op.actions) {
      for (const index of [action.input, action.secondaryInput, ...ownerInputs(action)]) {
        const at = Number(index) - inputs.length;
        if (at >= 0 && at < this.#uses.length) this.#uses[at]!++;
      }
    }
  }

  async act(index: number): Promise<void> {
    const action = this.#op.actions[index]!;
    this.#context.signal.throwIfAborted();
    const temporary: MountedTree[] = [];
    try {
      const result = await this.#target(Number(action.input), index);
      this.#results[index] = result;
      const readTree = async (at: number): Promise<string | undefined> => {
        const ref = await this.#readable(at, index);
        if (!ref) return undefined;
        const tree = await this.#services.mountLocally(
          await ref.mount(true, { signal: this.#context.signal }),
        );
        temporary.push(tree);
        return tree.path;
      };
      const source = await readTree(Number(action.secondaryInput));
      const owner = ownerOf(action);
      const userRoot = await this.#namedRoot(owner?.user, readTree);
      const groupRoot = await this.#namedRoot(owner?.group, readTree);
      const trees = { target: result.tree!.path, source, userRoot, groupRoot };
      await this.#services.runAction(action, trees, this.#context.signal);
    } finally {
      for (const tree of temporary.reverse()) await tree.release();
    }
  }

  /** One ref per exported output, in output order. */
  async outputs(): Promise<readonly ImmutableRef[]> {
    const committed: ImmutableRef[] = [];
    for (const [index, action] of this.#op.actions.entries()) {
      if (action.output >= 0n) committed[Number(action.output)] = await this.#committed(index);
    }
    return committed.map((ref) => ref.clone()); // when nothing can fail any more
  }

  /** Hands the trees of a failed action to the solver, where a job asks for them. */
  async leave(index: number): Promise<void> {
    const keep = this.#context.signal.aborted ? undefined : this.#context.keeper?.();
    if (!keep) return;
    const { actions } = this.#op;
    const inputs = this.#inputs.map((input) => input?.clone() ?? null);
    const mounts: (ImmutableRef | null)[] = actions.map(() => null);
    const failed = this.#results[index];
    if (failed?.mutable) {
      await failed.tree?.release();
      failed.tree = undefined;
      mounts[index] = await present(failed.mutable);
      failed.mutable = undefined;
    }
    const source = Number(actions[index]!.secondaryInput) - inputs.length;
    if (source >= 0) mounts[source] = this.#results[source]?.committed?.clone() ?? null;
    keep(new FailedStep(inputs, mounts, { kind: 'file', index }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const result of this.#results.reverse()) {
      if (!result) continue;
      await result.tree?.release();
      await result.mutable?.release();
      await result.committed?.release();
    }
  }

  /** The tree an action writes to: its input's own when nobody else uses it, a fresh child otherwise. */
  async #target(input: number, index: number): Promise<ActionResult> {
    const from = input - this.#inputs.length;
    const before = from >= 0 ? this.#results[from] : undefined;
    if (from >= 0 && !before) throw invalidArgument(`invalid input index ${input} of file action ${index}`);
    if (before?.mutable && this.#uses[from] === 1 && this.#op.actions[from]!.output < 0n) {
      const { mutable, tree } = before;
      before.mutable = undefined;
      before.tree = undefined;
      return { mutable, tree: tree ?? (await this.#open(mutable)), committed: undefined };
    }
    const parent = from >= 0 ? await this.#committed(from) : this.#input(input);
    const mutable = await this.#services.refs.newMutable(
      parent ?? undefined,
      { description: this.#services.description },
      { signal: this.#context.signal },
    );
    try {
      return { mutable, tree: await this.#open(mutable), committed: undefined };
    } catch (error) {
      await mutable.release();
      throw error;
    }
  }

  async #open(mutable: MutableRef): Promise<MountedTree> {
    return this.#services.mountLocally(await mutable.mount(false, { signal: this.#context.signal }));
  }

  #input(index: number): ImmutableRef | null {
    return index < 0 ? null : (this.#inputs[index] ?? null);
  }

  async #readable(index: number, reader: number): Promise<ImmutableRef | null> {
    const from = index - this.#inputs.length;
    if (from < 0) return this.#input(index);
    if (from >= reader) throw invalidArgument(`invalid input index ${index} of file action ${reader}`);
    return this.#committed(from);
  }

  async #committed(index: number): Promise<ImmutableRef> {
    const result = this.#results[index];
    if (result?.committed) return result.committed;
    if (!result?.mutable) throw new BuildError(`file action ${index} has no result`);
    await result.tree?.release();
    result.tree = undefined;
    const { mutable } = result;
    result.mutable = undefined;
    result.committed = await mutable.commit();
    return result.committed;
  }

  async #namedRoot(
    user: UserOpt | undefined,
    readTree: (index: number) => Promise<string | undefined>,
  ): Promise<string | undefined> {
    if (user?.user?.$case !== 'byName') return undefined;
    const index = Number(user.user.value.input);
    if (index < 0) throw invalidArgument(`invalid user index: ${index}`);
    return readTree(index);
  }
}

function ownerOf(action: FileAction): ChownOpt | undefined {
  switch (action.action?.$case) {
    case 'copy':
    case 'mkfile':
    case 'mkdir':
    case 'symlink':
      return action.action.value.owner;
    default:
      return undefined;
  }
}

function ownerInputs(action: FileAction): bigint[] {
  const owner = ownerOf(action);
  return [owner?.user, owner?.group].flatMap((u) =>
    u?.user?.$case === 'byName' ? [u.user.value.input] : [],
  );
}
