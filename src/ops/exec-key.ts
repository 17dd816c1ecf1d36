import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { field, goJson, goStruct, optional } from '../base/gojson.ts';
import { joinPath } from '../llb/gopath.ts';
import { execJson } from '../llb/json.ts';
import { type ExecOp, type Mount, MountContentCache, MountType } from '../llb/ops.ts';
import type { Platform } from '../oci/platform.ts';
import { selectPath } from '../cache/content-selector.ts';
import { dedupePaths, type KeyDep } from './selector-key.ts';

const keyJson = goStruct<{ op: ExecOp; platform: Platform }>(
  field('Type', () => 'buildkit.exec.v0'),
  field('Exec', ({ op }) => execJson(op)),
  field('OS', ({ platform }) => platform.os),
  field('Arch', ({ platform }) => platform.architecture),
  optional('Variant', ({ platform }) => platform.variant ?? ''),
  optional('OSVersion', ({ platform }) => platform.osVersion ?? ''),
  optional('OSFeatures', ({ platform }) => platform.osFeatures ?? []),
);

/** Digest of an exec step, without what must not make a difference (FEATURES E5). */
export function execDigest(op: ExecOp, platform: Platform): Digest {
  return digestOf(goJson(keyJson({ op: keyedExec(op), platform })));
}

/** What of an exec step makes a difference. */
export function keyedExec(op: ExecOp): ExecOp {
  const meta = op.meta && {
    ...op.meta,
    proxyEnv: undefined,
    extraHosts: op.meta.extraHosts.map(({ Host }) => ({ Host, IP: '' })),
  };
  const mounts = isPlainRoot(op.mounts) ? [] : op.mounts.map(withoutSelection);
  return { ...op, meta, mounts };
}

function withoutSelection(mount: Mount): Mount {
  const plain = { ...mount, selector: '' };
  const { cacheOpt } = mount;
  if (!cacheOpt || hasDefaultCacheId(cacheOpt.ID, cacheOpt.sharing, mount.dest)) return plain;
  return { ...plain, cacheOpt: { ID: '', sharing: 0 } };
}

/** Ids that Dockerfiles give by default, with or without a namespace, have always been part of the key. */
function hasDefaultCacheId(id: string, sharing: number, dest: string): boolean {
  if (sharing !== 0) return false;
  const slash = id.indexOf('/');
  return id === dest || (slash >= 0 && id.slice(slash + 1) === dest);
}

/** The one mount of an ordinary RUN has always been left out; selectors do not count here. */
function isPlainRoot(mounts: readonly Mount[]): boolean {
  const [mount] = mounts;
  return (
    mount !== undefined &&
    mounts.length === 1 &&
    mount.dest === '/' &&
    !mount.readonly &&
    mount.mountType === MountType.BIND &&
    !mount.cacheOpt &&
    !mount.SSHOpt &&
    !mount.secretOpt &&
    mount.resultID === ''
  );
}

/** How each of the `inputs` inputs counts (FEATURES E6). */
export function execDeps(op: ExecOp, inputs: number): KeyDep[] {
  const selectors = Array.from({ length: inputs }, (): string[] => []);
  const byContent = new Array<boolean>(inputs).fill(false);
  for (const mount of op.mounts) {
    if (!readsInput(mount)) continue;
    const input = Number(mount.input);
    const selected = selectors[input];
    if (!selected) throw new BuildError(`invalid mountinput ${mount.dest}`);
    const selector = joinPath('/', mount.selector);
    selected.push(selector);
    byContent[input] = countsByContent(mount, selector);
  }
  return selectors.map((paths, i) => ({
    selector: paths.length > 0 ? digestOf(paths.join('\0')) : '',
    content: byContent[i] ? contentOf(dedupePaths(paths)) : undefined,
  }));
}

function readsInput(mount: Mount): boolean {
  const { mountType } = mount;
  if (mountType === MountType.SECRET || mountType === MountType.SSH || mountType === MountType.TMPFS) {
    return false;
  }
  return mount.input !== -1n;
}

/**
 * Content may stand for history only when no result of the step holds parts of the input that were not looked
 * at: without output, read-only, or when all of it is selected.
 */
function countsByContent(mount: Mount, selector: string): boolean {
  const safe = mount.output === -1n || mount.readonly || selector === '/';
  switch (mount.contentCache) {
    case MountContentCache.OFF:
      return false;
    case MountContentCache.ON:
      if (!safe) throw new BuildError(`invalid mount cache content ${mount.dest}`);
      return true;
    default:
      return safe && mount.dest !== '/';
  }
}

function contentOf(paths: readonly string[]): KeyDep['content'] {
  if (paths.includes('') || paths.includes('/')) return [];
  return paths.map((path) => selectPath(path, true));
}
