import { invalidArgument } from '../../base/errors.ts';
import { build, requires } from '../combine.ts';
import { run, type RunResult } from '../exec.ts';
import { file } from '../file.ts';
import { marshal } from '../marshal.ts';
import { hostPlatform } from '../platform.ts';
import * as tree from '../state.ts';
import { Definition } from './definition.ts';
import { actionsOf, type FileAction, stepsOf } from './file.ts';
import { LAZY, Lazy, newContext } from './lazy.ts';
import type { Mounts, OutputsOf } from './mounts.ts';
import {
  constraintsOf,
  metadataOf,
  type Platform,
  platformOf,
  type PlatformSpec,
  type StepMetadata,
  type StepOptions,
} from './options.ts';
import { type Command, type RunOptions, runOptionsOf } from './run.ts';
import {
  type ImageConfig,
  type Network,
  type RunSettings,
  type Security,
  type Settings,
  settingsOf,
  type UlimitName,
  withConfig,
  withSettings,
} from './settings.ts';

/** How a graph becomes a definition. */
export interface MarshalOptions extends StepMetadata {
  /** Of steps that name none and run in a tree that names none; this machine's when left out. */
  readonly platform?: PlatformSpec;
  /** Op `constraints.filter` of every step, in front of its own. */
  readonly workerFilters?: readonly string[];
  /** Source `local.unique` of every local source; random when left out, so that builds do not share files by chance. */
  readonly localUniqueId?: string;
  /** LLB capabilities of the daemon, if they are known: where it lacks one, a step may say the same in another way. */
  readonly caps?: Iterable<string>;
  /** Ends what functions given to `async` and image resolvers do. */
  readonly signal?: AbortSignal;
}

/** What a function given to `async` or `defer` is told. */
export interface AsyncContext {
  /** That of the marshal. */
  readonly platform: Platform;
  readonly signal: AbortSignal | undefined;
}

/**
 * A file tree to be, and the settings that runs in it start from. Immutable: every method gives another state, and
 * nothing happens before `marshal`, or to be exact before a daemon solves what it gives.
 */
export class State {
  /** @internal */
  readonly [LAZY]: Lazy<tree.State>;
  readonly #defaults: MarshalOptions;

  /** @internal */
  constructor(lazy: Lazy<tree.State>, defaults: MarshalOptions = {}) {
    this[LAZY] = lazy;
    this.#defaults = defaults;
  }

  /** Variables of runs: Meta `env`. A name that is there already moves to the end. */
  env(name: string, value: string): State;
  env(variables: Readonly<Record<string, string>>): State;
  env(first: string | Readonly<Record<string, string>>, value = ''): State {
    return this.#set({ env: typeof first === 'string' ? { [first]: value } : first });
  }

  /** Meta `cwd` of runs, and where paths of file actions start. A relative one goes on from the present one. */
  dir(path: string): State {
    return this.#set({ dir: path });
  }

  /** Meta `user` of runs. */
  user(user: string): State {
    return this.#set({ user });
  }

  /** Meta `hostname` of runs. */
  hostname(hostname: string): State {
    return this.#set({ hostname });
  }

  /** ExecOp `network` of runs. */
  network(network: Network): State {
    return this.#set({ network });
  }

  /** ExecOp `security` of runs. */
  security(security: Security): State {
    return this.#set({ security });
  }

  /** Op `platform` of runs, normalized. */
  platform(platform: PlatformSpec): State {
    return this.#map((state) => tree.setPlatform(state, platformOf(platform)));
  }

  /** One more of Meta `extraHosts` of runs. */
  extraHost(host: string, ip: string): State {
    return this.#set({ extraHosts: [{ host, ip }] });
  }

  /** One more of Meta `ulimit` of runs. */
  ulimit(name: UlimitName, soft: number | bigint, hard: number | bigint): State {
    return this.#set({ ulimits: [{ name, soft, hard }] });
  }

  /** Meta `cgroupParent` of runs. */
  cgroupParent(cgroupParent: string): State {
    return this.#set({ cgroupParent });
  }

  /** Meta `validExitCodes` of runs. */
  validExitCodes(...codes: readonly number[]): State {
    return this.#set({ validExitCodes: codes });
  }

  /** Variables, directory and platform of an image config: settings only, the tree stays. */
  withImageConfig(config: ImageConfig): State {
    return this.#map((state) => withConfig(state, config));
  }

  /** Keeps anything with the state and those made of it. Yields nothing. */
  withValue(key: unknown, value: unknown): State {
    return this.#map((state) => tree.setValue(state, key, value));
  }

  /** What `withValue` keeps, or undefined. */
  async value(key: unknown, options: MarshalOptions = {}): Promise<unknown> {
    return (await this.#resolve(options)).values?.get(key);
  }

  /** What runs in this state start from. `options.platform` is told to functions given to `async`. */
  async settings(options: MarshalOptions = {}): Promise<Settings> {
    return settingsOf(await this.#resolve(options));
  }

  /** This tree with the settings of `other`; the directory is the root, unless the step of this tree names a platform. */
  reset(other: State): State {
    return new State(Lazy.all([this[LAZY], other[LAZY]], tree.reset));
  }

  /** `change(this)`, so that functions of states can be written in a row. */
  with(...changes: readonly ((state: State) => State)[]): State {
    return changes.reduce((state, change) => change(state), this as State);
  }

  /** What `make` gives when the graph is marshalled. It runs once for each marshal, however often the state is used. */
  async(make: (state: State, context: AsyncContext) => State | Promise<State>): State {
    return defer((context) => make(this, context));
  }

  /**
   * Runs a command in this tree: an ExecOp, its first mount this state. The result is the tree after it, with the
   * settings of this state; `output` of it is what a mount holds then.
   */
  run<M extends Mounts = Record<never, never>>(
    command: Command,
    options: RunOptions<M> & { readonly readonlyRoot: true },
  ): RunOutputs<OutputsOf<M>>;
  run<M extends Mounts = Record<never, never>>(
    command: Command,
    options?: RunOptions<M> & { readonly readonlyRoot?: false },
  ): Run<OutputsOf<M>>;
  run(command: Command, options: RunOptions = {}): Run<string> {
    const result = Lazy.all([this[LAZY], runOptionsOf(command, options)], (state, inner) =>
      run(state, { ...inner, with: (before) => withSettings(before, options) }),
    );
    return new Run(result, options);
  }

  /** Makes, copies and removes files: a FileOp with these actions in this order, on this tree. */
  file(actions: FileAction | readonly FileAction[], options: StepOptions = {}): State {
    return new State(Lazy.all([this[LAZY], stepsOf(actionsOf(actions)), constraintsOf(options)], file));
  }

  /** This tree once all `dependencies` are made too: a PassthroughOp `id`. Without dependencies, this state. */
  requires(id: string, dependencies: readonly State[], options: StepOptions = {}): State {
    const others = Lazy.all<tree.State[], readonly tree.State[]>(
      dependencies.map((state) => state[LAZY]),
      (...all) => all,
    );
    return new State(
      Lazy.all([this[LAZY], others, constraintsOf(options)], (state, all, constraints) =>
        requires(state, id, all, constraints),
      ),
    );
  }

  /**
   * What the definition in a file of this tree gives when the build gets there: a BuildOp with this tree as input
   * `buildkit.llb.definition`. The file is what `Definition.toBytes` gives, `/buildkit.llb.definition` when left out.
   */
  build(options: StepOptions & { readonly filename?: string } = {}): State {
    const { filename } = options;
    return new State(
      Lazy.all([this[LAZY], constraintsOf(options)], (state, constraints) =>
        build(state, filename === undefined ? {} : { filename }, constraints),
      ),
    );
  }

  /** Options of `marshal` of this very state, below those given there. States made of it do not have them. */
  withMarshalDefaults(options: MarshalOptions): State {
    return new State(this[LAZY], options);
  }

  /**
   * The definition of the graph; without entries for the empty tree. Equal graphs give equal bytes, the same as those
   * of BuildKit's Go client, when `localUniqueId` is set or nothing local is in it.
   * @throws {Error} for a graph that no daemon would take, and what functions given to `async` throw
   */
  async marshal(options: MarshalOptions = {}): Promise<Definition> {
    const all = { ...this.#defaults, ...options };
    const { platform, workerFilters, localUniqueId, caps } = all;
    const message = marshal(await this.#resolve(options), {
      ...(platform === undefined ? {} : { platform: platformOf(platform) }),
      ...(workerFilters ? { workerConstraints: workerFilters } : {}),
      ...(localUniqueId ? { localUniqueId } : {}),
      ...(caps ? { caps: new Set(caps) } : {}),
      metadata: metadataOf(all),
      checkText: true,
    });
    return new Definition(message);
  }

  #resolve(options: MarshalOptions): Promise<tree.State> {
    const { platform, signal } = { ...this.#defaults, ...options };
    return this[LAZY].resolve(
      newContext(platform === undefined ? hostPlatform() : platformOf(platform), signal),
    );
  }

  #set(settings: RunSettings): State {
    return this.#map((state) => withSettings(state, settings));
  }

  #map(change: (state: tree.State) => tree.State): State {
    return new State(this[LAZY].map(change));
  }
}

/** The mounts of a run that are states after it; the run has no root of its own. */
export interface RunOutputs<Outputs extends string> {
  /** The mount at `destination` after the run: the output of the ExecOp with the mount's number. */
  output(destination: Outputs): State;
}

/** The tree after a run, and its mounts. */
export class Run<Outputs extends string> extends State implements RunOutputs<Outputs> {
  readonly #result: Lazy<RunResult>;
  readonly #mounts: Mounts;

  /** @internal */
  constructor(result: Lazy<RunResult>, options: RunOptions) {
    super(result.map(({ root }) => root));
    this.#result = result;
    this.#mounts = options.mounts ?? {};
  }

  /** This state without `output`. */
  get root(): State {
    return new State(this[LAZY]);
  }

  /** The mount at `destination` after the run: the output of the ExecOp with the mount's number. */
  output(destination: Outputs): State {
    if (!this.#mounts[destination]?.givesOutput)
      throw invalidArgument(
        `no mount of the run gives an output at ${destination}: only trees that are not read-only do`,
      );
    return new State(this.#result.map((result) => result.mount(destination)));
  }
}

/** A state that is made when the graph is marshalled, once for each marshal. Yields what the state yields. */
export function defer(make: (context: AsyncContext) => State | Promise<State>): State {
  return new State(
    Lazy.later(async (context) => {
      const { platform, signal } = context;
      signal?.throwIfAborted();
      return (await make({ platform, signal }))[LAZY].resolve(context);
    }),
  );
}
