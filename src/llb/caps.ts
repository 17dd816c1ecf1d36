import { BuildError, Code } from '../base/errors.ts';

/**
 * Capabilities of the LLB interface that this build serves (FEATURES D42-D47), sorted. Move a line here from
 * `UNSERVED_CAPS` in the commit that makes it work: clients adapt to what they read.
 */
export const ENABLED_CAPS: readonly string[] = [
  'cache.azblob',
  'cache.gha',
  'cache.s3',
  'constraints',
  'diffop',
  'exec.cgroup',
  'exec.meta.base',
  'exec.meta.cdi',
  'exec.meta.cgroup.parent',
  'exec.meta.linux.resources',
  'exec.meta.network',
  'exec.meta.proxyenv',
  'exec.meta.security',
  'exec.meta.security.devices.v1',
  'exec.meta.setsdefaultpath',
  'exec.meta.ulimit',
  'exec.mount.bind',
  'exec.mount.bind.readwrite-nooutput',
  'exec.mount.cache',
  'exec.mount.cache.content',
  'exec.mount.cache.sharing',
  'exec.mount.secret',
  'exec.mount.selector',
  'exec.mount.ssh',
  'exec.mount.tmpfs',
  'exec.mount.tmpfs.size',
  'exec.secretenv',
  'exec.validexitcode',
  'exporter.image.annotations',
  'exporter.image.attestations',
  'exporter.multiple',
  'exporter.session',
  'exporter.sourcedateepoch',
  'file.base',
  'file.copy.alwaysreplaceexistingdestpaths',
  'file.copy.includeexcludepatterns',
  'file.copy.requiredpaths',
  'file.rm.nofollowsymlink',
  'file.rm.wildcard',
  'file.symlink.create',
  'gc.freespacefilter',
  'history.filter',
  'mergeop',
  'meta.description',
  'meta.exportcache',
  'meta.ignorecache',
  'passthroughop',
  'platform',
  'soruce.http.uidgid',
  'source.buildop.llbfilename',
  'source.git',
  'source.git.bundle',
  'source.git.checkoutbundle',
  'source.git.checksum',
  'source.git.fetchbycommit',
  'source.git.fullurl',
  'source.git.httpauth',
  'source.git.keepgitdir',
  'source.git.knownsshhosts',
  'source.git.mountsshsock',
  'source.git.mtime',
  'source.git.signatureverify',
  'source.git.skipsubmodules',
  'source.git.subdir',
  'source.http',
  'source.http.auth',
  'source.http.checksum',
  'source.http.header',
  'source.http.perm',
  'source.http.signatureverify',
  'source.image',
  'source.image.checksum',
  'source.image.layerlimit',
  'source.image.resolvemode',
  'source.imageblob',
  'source.local',
  'source.local.differ',
  'source.local.excludepatterns',
  'source.local.followpaths',
  'source.local.includepatterns',
  'source.local.metadatatransfer',
  'source.local.sessionid',
  'source.local.sharedkeyhint',
  'source.local.unique',
  'source.ocilayout',
  'source.policy',
  'source.policy.session',
];

/** The capabilities that exist and are not served yet, sorted. */
export const UNSERVED_CAPS: readonly string[] = ['exec.meta.network.proxy'];

/** Capabilities of the frontend gateway that this build serves (FEATURES D48), sorted. */
export const ENABLED_GATEWAY_CAPS: readonly string[] = [
  'frontend.caps',
  'frontend.inputs',
  'gateway.evaluate',
  'gateway.exec',
  'gateway.exec.extrahosts',
  'gateway.exec.filesystem',
  'gateway.exec.secretenv',
  'gateway.exec.signals',
  'gateway.solve.evaluate',
  'gateway.solve.metadata',
  'gateway.warnings',
  'importcaches',
  'proto.refarray',
  'readdir',
  'readfile',
  'reference.attestations',
  'reference.output',
  'resolveimage',
  'resolveimage.resolvemode',
  'return',
  'returnmap',
  'solve.base',
  'solve.inlinereturn',
  'source.metaresolver',
  'source.metaresolver.http.checksumrequest',
  'source.metaresolver.image.attestations',
  'statfile',
];

/** Set behind the name in the text of the error. */
const TITLES: Readonly<Record<string, string>> = { 'exporter.sourcedateepoch': '(source date epoch)' };

const KNOWN = new Set([...ENABLED_CAPS, ...UNSERVED_CAPS]);
const ENABLED = new Set(ENABLED_CAPS);

/** Refuses a capability that is not among `enabled` (FEATURES D24). */
export function checkCap(cap: string, enabled: ReadonlySet<string> = ENABLED): void {
  if (enabled.has(cap)) return;
  if (!KNOWN.has(cap)) throw new BuildError(`unknown API capability ${cap}`, { code: Code.unknown });
  throw new BuildError(
    `requested experimental feature ${cap} ${TITLES[cap] ?? ''} is not supported by build server, please update buildkit`,
  );
}
