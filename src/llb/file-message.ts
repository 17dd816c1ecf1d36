import { invalidArgument } from '../base/errors.ts';
import { cleanPath, joinPath } from './gopath.ts';
import type { CopyOptions, FileActionNode, FileStep, Output, Owner, OwnerOptions } from './node.ts';
import type { ChownOpt, FileAction, FileOp, Input, UserOpt } from './ops.ts';
import type { State } from './state.ts';

type Resolve = (output: Output) => Input;
type Action = NonNullable<FileAction['action']>;
/** An input of the op, or the outcome of an action. */
type Place = { readonly input: number } | { readonly action: number };

interface Placed {
  readonly at: Place;
  readonly second: Place;
  readonly action: Action;
}

const SCRATCH: Place = { input: -1 };

/** The trees that a chain of actions reads, in the order in which a definition lists them. */
export function fileInputs(chain: FileActionNode): Output[] {
  const outputs = chain.steps.toReversed().flatMap((step) => {
    const own = chain.base.output ? [chain.base.output] : [];
    if (step.kind !== 'copy') return own;
    if (isChain(step.from)) return [...own, ...fileInputs(step.from)];
    return step.from.output ? [...own, step.from.output] : own;
  });
  return [...new Set(outputs)];
}

/** The op's message and its inputs. */
export function fileMessage(chain: FileActionNode, resolve: Resolve): { file: FileOp; inputs: Input[] } {
  const builder = new FileBuilder(resolve);
  builder.add(chain);
  return { file: { actions: builder.actions() }, inputs: builder.inputs };
}

class FileBuilder {
  readonly inputs: Input[] = [];
  readonly #resolve: Resolve;
  readonly #placed: Placed[] = [];
  readonly #chains = new Map<FileActionNode, number>();

  constructor(resolve: Resolve) {
    this.#resolve = resolve;
  }

  /** Gives the number of the chain's last action. */
  add(chain: FileActionNode): number {
    const known = this.#chains.get(chain);
    if (known !== undefined) return known;
    if (chain.steps.length === 0) throw invalidArgument('action is required');
    let last = -1;
    for (const step of chain.steps) {
      const base = chain.base.output ? this.#input(chain.base.output) : -1;
      const at: Place = last < 0 ? { input: base } : { action: last };
      const second = step.kind === 'copy' ? this.#copySource(step.from) : SCRATCH;
      last = this.#placed.push({ at, second, action: actionMessage(step, chain.base, base) }) - 1;
    }
    this.#chains.set(chain, last);
    return last;
  }

  actions(): FileAction[] {
    const index = (place: Place): bigint =>
      BigInt('input' in place ? place.input : this.inputs.length + place.action);
    return this.#placed.map(({ at, second, action }, i) => ({
      input: index(at),
      secondaryInput: index(second),
      output: i + 1 === this.#placed.length ? 0n : -1n,
      action,
    }));
  }

  #copySource(from: State | FileActionNode): Place {
    if (isChain(from)) return { action: this.add(from) };
    return from.output ? { input: this.#input(from.output) } : SCRATCH;
  }

  #input(output: Output): number {
    const input = this.#resolve(output);
    const known = this.inputs.findIndex((i) => i.digest === input.digest && i.index === input.index);
    return known >= 0 ? known : this.inputs.push(input) - 1;
  }
}

function isChain(from: State | FileActionNode): from is FileActionNode {
  return 'steps' in from;
}

function actionMessage(step: FileStep, base: State, input: number): Action {
  switch (step.kind) {
    case 'mkdir': {
      const { makeParents = false } = step.options;
      const path = absolute(base.dir, step.path);
      return {
        $case: 'mkdir',
        value: { path, mode: step.mode & 0o777, makeParents, ...stamped(step.options, input) },
      };
    }
    case 'mkfile': {
      const path = absolute(base.dir, step.path);
      const value = { path, mode: step.mode & 0o777, data: step.data, ...stamped(step.options, input) };
      return { $case: 'mkfile', value };
    }
    case 'symlink': {
      const value = { oldpath: step.oldPath, newpath: step.newPath, ...stamped(step.options, input) };
      return { $case: 'symlink', value };
    }
    case 'rm': {
      const { allowNotFound = false, allowWildcard = false } = step.options;
      return { $case: 'rm', value: { path: absolute(base.dir, step.path), allowNotFound, allowWildcard } };
    }
    case 'copy': {
      const from = isChain(step.from) ? step.from.base : step.from;
      const src = cleanPath(step.src);
      const value = {
        src: src.startsWith('/') ? src : joinPath(from.dir, src),
        dest: keepSlash(step.dest, absolute(base.dir, step.dest)),
        ...copyFields(step.options),
        ...stamped(step.options, input),
      };
      return { $case: 'copy', value };
    }
  }
}

function copyFields(options: CopyOptions) {
  const { mode } = options;
  return {
    mode: typeof mode === 'number' ? mode : mode === undefined || mode === '' ? -1 : 0,
    modeStr: typeof mode === 'string' ? mode : '',
    followSymlink: options.followSymlinks ?? false,
    dirCopyContents: options.dirContentsOnly ?? false,
    attemptUnpackDockerCompatibility: options.attemptUnpack ?? false,
    createDestPath: options.createDestPath ?? false,
    allowWildcard: options.allowWildcard ?? false,
    allowEmptyWildcard: options.allowEmptyWildcard ?? false,
    includePatterns: [...(options.includePatterns ?? [])],
    excludePatterns: [...(options.excludePatterns ?? [])],
    alwaysReplaceExistingDestPaths: options.alwaysReplaceExistingDestPaths ?? false,
    requiredPaths: [...(options.requiredPaths ?? [])],
  };
}

function stamped(options: OwnerOptions, input: number): { owner: ChownOpt | undefined; timestamp: bigint } {
  const { owner } = options;
  return {
    owner: owner && { user: userMessage(owner.user, input), group: userMessage(owner.group, input) },
    timestamp: options.createdTime ?? -1n,
  };
}

function userMessage(owner: Owner | undefined, input: number): UserOpt | undefined {
  if (!owner) return undefined;
  if ('name' in owner) {
    return { user: { $case: 'byName', value: { name: owner.name, input: BigInt(input) } } };
  }
  return { user: { $case: 'byID', value: owner.id >>> 0 } };
}

function absolute(dir: string, path: string): string {
  const clean = cleanPath(path);
  return clean.startsWith('/') ? clean : joinPath('/', dir, clean);
}

/** A slash or `/.` at the end of a destination says that it is a directory. */
function keepSlash(original: string, path: string): string {
  if (original.endsWith('/') && !path.endsWith('/')) return `${path}/`;
  if (original.endsWith('/.')) return path === '/' ? '/.' : `${path}/.`;
  return path;
}
