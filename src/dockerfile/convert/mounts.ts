import { BuildError } from '../../base/errors.ts';
import type { MountOptions, SecretOptions, SshOptions } from '../../llb/exec.ts';
import { file, mkdir } from '../../llb/file.ts';
import { basePath, cleanPath, joinPath } from '../../llb/gopath.ts';
import { type State, scratch } from '../../llb/state.ts';
import type { Location } from '../location.ts';
import type { RunMount } from '../instructions/types.ts';
import { quote } from '../text.ts';
import type { DispatchContext } from './dispatch.ts';
import type { OutlineSecret } from './outline.ts';
import type { StageState } from './stage.ts';

export interface RunMounts {
  readonly mounts: readonly MountOptions[];
  readonly secrets: readonly SecretOptions[];
  readonly ssh: readonly SshOptions[];
}

const CACHE_DIRECTORY = '/cache';
const SECRET_DIRECTORY = '/run/secrets/';

/** Turns `--mount` values into mounts of the step (FEATURES H35-H39). */
export function runMounts(
  stage: StageState,
  mounts: readonly RunMount[],
  sources: readonly StageState[],
  location: Location,
  context: DispatchContext,
): RunMounts {
  const out = { mounts: [] as MountOptions[], secrets: [] as SecretOptions[], ssh: [] as SshOptions[] };
  mounts.forEach((mount, index) => {
    const from = mount.from === '' && mount.type === 'cache' ? 'scratch' : mount.from;
    const source = from === '' ? undefined : sources[index];
    if (source && !source.dispatched)
      throw new BuildError(
        `cannot mount from stage ${quote(from)} to ${quote(mount.target)}, stage needs to be defined before current command`,
      );
    if (mount.type === 'secret') {
      const secret = secretMount(mount);
      note(stage.outline.secrets, secret.id, mount, location);
      out.secrets.push(secret);
    } else if (mount.type === 'ssh') {
      out.ssh.push(sshMount(mount));
      note(stage.outline.ssh, mount.id || 'default', mount, location);
    } else out.mounts.push(treeMount(stage, mount, source, context));
  });
  return out;
}

function note(
  known: Map<string, OutlineSecret>,
  name: string,
  { required }: RunMount,
  location: Location,
): void {
  if (!known.has(name)) known.set(name, { name, required, location });
}

function treeMount(
  stage: StageState,
  mount: RunMount,
  source: StageState | undefined,
  context: DispatchContext,
): MountOptions {
  const { target } = mount;
  const dest = cleanPath(target).startsWith('/') ? target : joinPath('/', stage.state.dir, target);
  if (dest === '/') throw new BuildError(`invalid mount target ${quote(dest)}`);
  const from = source ? source.state : context.buildContext;
  const made = selected(mount, mount.type === 'tmpfs' ? scratch() : from);
  const used = source ? source.paths : stage.contextPaths;
  used.add(joinPath('/', mount.source));
  return {
    dest,
    from: made.state,
    ...(made.selector === undefined ? {} : { selector: made.selector }),
    ...(mount.readonly ? { readonly: true } : {}),
    ...kindOptions(mount, context),
  };
}

function kindOptions(mount: RunMount, context: DispatchContext): Partial<MountOptions> {
  switch (mount.type) {
    case 'tmpfs':
      return { tmpfs: { sizeBytes: mount.sizeLimit } };
    case 'cache': {
      const id = mount.id || cleanPath(mount.target);
      const sharing = mount.sharing ?? 'shared';
      return { cache: { id: `${context.options.cacheIdNamespace}/${id}`, sharing } };
    }
    default:
      return !mount.readonly && context.options.caps?.has('exec.mount.bind.readwrite-nooutput')
        ? { noOutput: true }
        : {};
  }
}

/** The part of the tree that is mounted. An owner or mode needs a directory made for it. */
function selected(mount: RunMount, state: State): { state: State; selector?: string } {
  const path = joinPath('/', mount.source);
  if (path !== '/') return { state, selector: path };
  if (mount.uid === undefined && mount.gid === undefined && mount.mode === undefined) return { state };
  const owner = { user: { id: mount.uid ?? 0 }, group: { id: mount.gid ?? 0 } };
  const made = file(state, [mkdir(CACHE_DIRECTORY, mount.mode ?? 0o755, { owner })], {
    customName: '[internal] setting cache mount permissions',
  });
  return { state: made, selector: CACHE_DIRECTORY };
}

function secretMount(mount: RunMount): SecretOptions {
  const id = mount.source || mount.id || basePath(mount.target);
  const target =
    mount.env === undefined ? mount.target || SECRET_DIRECTORY + basePath(id) : mount.target || undefined;
  return {
    id,
    ...(target === undefined ? {} : { target }),
    ...(mount.env === undefined ? {} : { env: mount.env }),
    ...(mount.required ? {} : { optional: true }),
    ...fileOptions(mount, 0o400),
  };
}

function sshMount(mount: RunMount): SshOptions {
  if (mount.source !== '') throw new BuildError('ssh does not support source');
  return {
    id: mount.id,
    ...(mount.target === '' ? {} : { target: mount.target }),
    ...(mount.required ? {} : { optional: true }),
    ...fileOptions(mount, 0o600),
  };
}

function fileOptions(mount: RunMount, defaultMode: number): { uid?: number; gid?: number; mode?: number } {
  if (mount.uid === undefined && mount.gid === undefined && mount.mode === undefined) return {};
  return { uid: mount.uid ?? 0, gid: mount.gid ?? 0, mode: mount.mode ?? defaultMode };
}
