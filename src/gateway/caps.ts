import { BuildError, Code } from '../base/errors.ts';
import type { APICap } from '../pb/caps.ts';

/** What a daemon can do that lists nothing: it is older than such lists (frozen; FEATURES N14). */
const DEFAULT_CAPS = ['solve.base', 'solve.inlinereturn', 'resolveimage', 'readfile'];
const DEFAULT_LLB_CAPS = [
  'source.image',
  'source.local',
  'source.local.unique',
  'source.local.sessionid',
  'source.local.includepatterns',
  'source.local.followpaths',
  'source.local.excludepatterns',
  'source.local.sharedkeyhint',
  'source.git',
  'source.git.keepgitdir',
  'source.git.fullurl',
  'source.http',
  'source.http.checksum',
  'source.http.perm',
  'soruce.http.uidgid',
  'source.buildop.llbfilename',
  'exec.meta.base',
  'exec.meta.proxyenv',
  'exec.mount.bind',
  'exec.mount.cache',
  'exec.mount.cache.sharing',
  'exec.mount.selector',
  'exec.mount.tmpfs',
  'exec.mount.secret',
  'constraints',
  'platform',
  'meta.ignorecache',
  'meta.description',
  'meta.exportcache',
];

/** Capabilities that a daemon lists, or the default ones. */
export class Caps {
  readonly names: ReadonlySet<string>;
  readonly #reasons = new Map<string, string>();

  constructor(listed: readonly APICap[], defaults: readonly string[]) {
    for (const { ID, DisabledReasonMsg } of listed) this.#reasons.set(ID, DisabledReasonMsg);
    const enabled = listed.filter(({ Enabled }) => Enabled).map(({ ID }) => ID);
    this.names = new Set(listed.length > 0 ? enabled : defaults);
  }

  has(id: string): boolean {
    return this.names.has(id);
  }

  /** @throws BuildError when the daemon does not list the capability, or lists it as disabled. */
  need(id: string): void {
    if (this.names.has(id)) return;
    const reason = this.#reasons.get(id);
    throw new BuildError(
      `requested feature ${JSON.stringify(id)} is not supported by the daemon${reason ? `: ${reason}` : ''}`,
      { code: Code.unimplemented },
    );
  }
}

export function gatewayCaps(listed: readonly APICap[]): Caps {
  return new Caps(listed, DEFAULT_CAPS);
}

export function llbCaps(listed: readonly APICap[]): Caps {
  return new Caps(listed, DEFAULT_LLB_CAPS);
}
