import { posix } from 'node:path';
import { BuildError, invalidArgument } from '../base/errors.ts';
import type { ImmutableRef, MutableRef, RefManager } from '../cache/ref.ts';
import type { Mount as LlbMount } from '../llb/ops.ts';
import { type CacheMounts, StepCacheMounts } from './cache-mounts.ts';
import type { ContainerMount, Mountable } from '../executor/types.ts';
import { type GetSecret, secretMount } from './secret-mount.ts';
import { type ForwardSsh, sshMount } from './ssh-mount.ts';

const BIND = 0;
const SECRET = 1;
const SSH = 2;
const CACHE = 3;
const TMPFS = 4;
const NONE = -1n;

export interface ExecMountServices {
  readonly refs: RefManager;
  readonly cacheMounts: CacheMounts;
  readonly getSecret: GetSecret;
  readonly forwardSsh: ForwardSsh;
  /** For the files of secret mounts. */
  readonly tmpDir: string;
}

/** Whose mounts they are. */
export interface MountsOwner {
  readonly mounts: readonly LlbMount[];
  /** Where relative destinations begin. */
  readonly cwd: string;
  /** Said in descriptions of what is made for them. */
  readonly name: string;
}

/** Everything a step's mounts need and hold. Outputs come in mount order. */
export interface PreparedMounts {
  readonly root: Mountable;
  readonly readonlyRoot: boolean;
  readonly mounts: readonly ContainerMount[];
  /** What each mount shows, in the order they were given; undefined for one that is left out. */
  readonly sources: readonly (Mountable | undefined)[];
  readonly outputs: readonly StepOutput[];
  /** Writable trees without output, by index of their mount. */
  readonly actives: readonly ActiveTree[];
  /** Gives back everything that was not taken out of `outputs` or `actives`. */
  readonly cleanup: (() => Promise<void>)[];
}

export type StepOutput =
  | { readonly mountIndex: number; readonly ref: ImmutableRef }
  | { readonly mountIndex: number; readonly ref: MutableRef };

export interface ActiveTree {
  readonly mountIndex: number;
  readonly ref: MutableRef;
  /** Holds mount points alone: the step sees it read-only. */
  readonly stubs: boolean;
}

interface Draft {
  readonly caches: StepCacheMounts;
  root: Mountable | undefined;
  readonlyRoot: boolean;
  readonly mounts: ContainerMount[];
  readonly sources: (Mountable | undefined)[];
  readonly outputs: StepOutput[];
  readonly actives: ActiveTree[];
  readonly cleanup: (() => Promise<void>)[];
}

/** Turns the mounts of an exec op into trees to mount and outputs to commit (FEATURES G15, G16). */
export async function prepareMounts(
  owner: MountsOwner,
  inputs: readonly (ImmutableRef | null)[],
  services: ExecMountServices,
  signal: AbortSignal,
): Promise<PreparedMounts> {
  const draft: Draft = {
    caches: new StepCacheMounts(services.cacheMounts),
    root: undefined,
    readonlyRoot: false,
    mounts: [],
    sources: [],
    outputs: [],
    actives: [],
    cleanup: [],
  };
  try {
    for (const [index, llb] of owner.mounts.entries())
      await addMount(draft, owner, llb, index, inputs, services, signal);
    if (!draft.root) throw invalidArgument('invalid exec op with no rootfs');
  } catch (error) {
    await releaseAll([
      ...draft.outputs.map((o) => () => o.ref.release()),
      ...draft.actives.map(
        ({ ref }) =>
          () =>
            ref.release(),
      ),
    ]);
    await releaseAll(draft.cleanup);
    throw error;
  }
  draft.mounts.sort((a, b) => (a.dest < b.dest ? -1 : a.dest > b.dest ? 1 : 0));
  return { ...draft, root: draft.root };
}

async function addMount(
  draft: Draft,
  owner: MountsOwner,
  llb: LlbMount,
  index: number,
  inputs: readonly (ImmutableRef | null)[],
  services: ExecMountServices,
  signal: AbortSignal,
): Promise<void> {
  const isRoot = llb.dest === '/';
  if (isRoot && llb.mountType !== BIND) {
    throw invalidArgument(`invalid mount type ${mountTypeName(llb.mountType)} for ${llb.dest}`);
  }
  if (llb.input !== NONE && Number(llb.input) >= inputs.length)
    throw invalidArgument(`missing input ${llb.input}`);
  const input = llb.input === NONE ? undefined : (inputs[Number(llb.input)] ?? undefined);
  const makeMutable = () =>
    services.refs.newMutable(input, {
      description: `mount ${llb.dest} from ${owner.name}`,
    });

  const source = await mountSource(draft, owner, llb, index, input, makeMutable, services, signal);
  if (source === 'left out') return;
  if (!source) throw invalidArgument(`mount ${llb.dest} has no input`);
  draft.sources[index] = source;
  if (!isRoot) {
    const dest = posix.isAbsolute(posix.normalize(llb.dest))
      ? llb.dest
      : posix.join('/', owner.cwd, llb.dest);
    draft.mounts.push({ dest, readonly: llb.readonly, selector: llb.selector, source });
    return;
  }
  draft.readonlyRoot = llb.readonly;
  draft.root = source;
  if (llb.output === NONE && llb.readonly) {
    // Mount points are made in the root even when the step sees it read-only.
    const ref = await makeMutable();
    draft.actives.push({ mountIndex: index, ref, stubs: true });
    draft.root = ref;
    draft.sources[index] = ref;
  }
}

async function mountSource(
  draft: Draft,
  owner: MountsOwner,
  llb: LlbMount,
  index: number,
  input: ImmutableRef | undefined,
  makeMutable: () => Promise<MutableRef>,
  services: ExecMountServices,
  signal: AbortSignal,
): Promise<Mountable | undefined | 'left out'> {
  switch (llb.mountType) {
    case BIND:
      return bindSource(draft, llb, index, input, makeMutable);
    case CACHE: {
      const id = llb.cacheOpt?.ID ?? '';
      const name = id === llb.dest || id === '' ? '' : ` with id ${JSON.stringify(id)}`;
      const description = `cached mount ${llb.dest} from ${owner.name}${name}`;
      const dir = await draft.caches.open(llb, input, description, signal);
      draft.cleanup.push(() => dir.release());
      if (llb.output !== NONE && input) draft.outputs.push({ mountIndex: index, ref: input.clone() });
      return dir;
    }
    case TMPFS: {
      const size = llb.TmpfsOpt?.size ?? 0n;
      return tmpfs(size > 0n ? [`size=${size}`] : []);
    }
    case SECRET: {
      const get = services.getSecret;
      return (await secretMount(llb, { get, tmpDir: services.tmpDir, signal: signal })) ?? 'left out';
    }
    case SSH:
      return (await sshMount(llb, services.forwardSsh, signal)) ?? 'left out';
    default:
      throw new BuildError(`mount type ${mountTypeName(llb.mountType)} not implemented`);
  }
}

async function bindSource(
  draft: Draft,
  llb: LlbMount,
  index: number,
  input: ImmutableRef | undefined,
  makeMutable: () => Promise<MutableRef>,
): Promise<Mountable | undefined> {
  const isRoot = llb.dest === '/';
  if (llb.output !== NONE) {
    if (llb.readonly && input && !isRoot) {
      draft.outputs.push({ mountIndex: index, ref: input.clone() });
      return input;
    }
    const active = await makeMutable();
    draft.outputs.push({ mountIndex: index, ref: active });
    return active;
  }
  if (isRoot || (llb.readonly && input)) return input;
  const ref = await makeMutable();
  draft.actives.push({ mountIndex: index, ref, stubs: false });
  return ref;
}

function tmpfs(options: readonly string[]): Mountable {
  return {
    mount: async (readonly) => ({
      mounts: [
        { type: 'tmpfs', source: 'tmpfs', options: ['nosuid', ...(readonly ? ['ro'] : []), ...options] },
      ],
      release: async () => {},
    }),
  };
}

function mountTypeName(type: number): string {
  return ['BIND', 'SECRET', 'SSH', 'CACHE', 'TMPFS'][type] ?? String(type);
}

/** Runs all, in reverse order, and throws the first error afterwards. */
export async function releaseAll(steps: readonly (() => Promise<void>)[]): Promise<void> {
  let failed: unknown;
  for (const step of [...steps].reverse()) {
    try {
      await step();
    } catch (error) {
      failed ??= error;
    }
  }
  if (failed) throw failed;
}
