import { invalidArgument } from '../base/errors.ts';
import type { Digest } from '../base/digest.ts';
import { goJson } from '../base/gojson.ts';
import { type GitUrl, isGitTransport, parseGitUrl } from '../giturl/git-url.ts';
import { formatReference, normalizeReference, parseReference } from '../oci/reference.ts';
import { joinPath } from './gopath.ts';
import type { Constraints } from './node.ts';
import { type State, stateOf } from './state.ts';

type Attrs = Record<string, string>;

/** A tree made by source `identifier` with `attrs` as they are. */
export function source(
  identifier: string,
  attrs: Readonly<Attrs>,
  caps: readonly string[] = [],
  constraints: Constraints = {},
): State {
  if (identifier === '') throw invalidArgument("source identifier can't be empty");
  const node = { kind: 'source', identifier, attrs, caps, constraints } as const;
  return stateOf({ node, index: 0 }, constraints.platform);
}

export interface ImageOptions extends Constraints {
  readonly resolveMode?: 'default' | 'pull' | 'local';
  readonly recordType?: 'internal' | 'frontend';
  readonly layerLimit?: number;
  /** Refuse any other manifest. */
  readonly checksum?: Digest;
}

/** An image of a registry; `reference` in any spelling. */
export function image(reference: string, options: ImageOptions = {}): State {
  const attrs: Attrs = {};
  const caps = ['source.image'];
  const { resolveMode, recordType, layerLimit, checksum } = options;
  if (resolveMode === 'pull' || resolveMode === 'local') attrs['image.resolvemode'] = resolveMode;
  if (resolveMode === 'pull') caps.push('source.image.resolvemode');
  if (recordType) attrs['image.recordtype'] = recordType;
  if (layerLimit !== undefined) {
    attrs['image.layerlimit'] = String(layerLimit);
    caps.push('source.image.layerlimit');
  }
  if (checksum) {
    attrs['image.checksum'] = checksum;
    caps.push('source.image.checksum');
  }
  return source(`docker-image://${normalizeReference(reference)}`, attrs, caps, options);
}

export interface LocalOptions extends Constraints {
  readonly sessionId?: string;
  readonly includePatterns?: readonly string[];
  readonly excludePatterns?: readonly string[];
  readonly followPaths?: readonly string[];
  readonly sharedKeyHint?: string;
  readonly differ?: { readonly type: 'none' | 'metadata'; readonly required?: boolean };
  /** Transfers names and attributes only, and the content of what the patterns match. */
  readonly metadataOnly?: { readonly exceptions?: readonly string[] };
}

/** A folder of the client, by the name under which it serves it. */
export function local(name: string, options: LocalOptions = {}): State {
  const attrs: Attrs = {};
  const caps = ['source.local'];
  const put = (key: string, value: string, cap: string): void => {
    if (value === '') return;
    attrs[key] = value;
    caps.push(cap);
  };
  put('local.session', options.sessionId ?? '', 'source.local.sessionid');
  put('local.includepattern', list(options.includePatterns), 'source.local.includepatterns');
  put('local.followpaths', list(options.followPaths), 'source.local.followpaths');
  put('local.excludepatterns', list(options.excludePatterns), 'source.local.excludepatterns');
  put('local.sharedkeyhint', options.sharedKeyHint ?? '', 'source.local.sharedkeyhint');
  if (options.differ) {
    attrs['local.differ'] = options.differ.type;
    if (options.differ.required) caps.push('source.local.differ');
  }
  if (options.metadataOnly) {
    put('local.metadatatransfer', 'true', 'source.local.metadatatransfer');
    const exceptions = list(options.metadataOnly.exceptions);
    if (exceptions !== '') attrs['local.metadatatransferexclude'] = exceptions;
  }
  if (!options.sessionId) caps.push('source.local.unique');
  return source(`local://${name}`, attrs, caps, options);
}

function list(patterns: readonly string[] | undefined): string {
  return patterns && patterns.length > 0 ? goJson(patterns) : '';
}

export interface OciLayoutOptions extends Constraints {
  readonly sessionId?: string;
  readonly storeId?: string;
  readonly layerLimit?: number;
}

/** An image of an OCI layout that the client serves. `reference` is taken as it is. */
export function ociLayout(reference: string, options: OciLayoutOptions = {}): State {
  const attrs: Attrs = {};
  if (options.sessionId) attrs['oci.session'] = options.sessionId;
  if (options.storeId) attrs['oci.store'] = options.storeId;
  if (options.layerLimit !== undefined) attrs['oci.layerlimit'] = String(options.layerLimit);
  return source(`oci-layout://${reference}`, attrs, ['source.ocilayout'], options);
}

/** How a source that gives one file writes it. */
export interface FileOptions {
  readonly filename?: string;
  /** Permission bits of the file. */
  readonly perm?: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** One blob of a registry's repository as a file. `reference` is a name and a digest, without a tag. */
export function imageBlob(reference: string, options: FileOptions & Constraints = {}): State {
  return blob('docker-image+blob', reference, {}, options);
}

/** One blob of an OCI layout that the client serves. */
export function ociLayoutBlob(
  reference: string,
  options: FileOptions & Constraints & Pick<OciLayoutOptions, 'sessionId' | 'storeId'> = {},
): State {
  const { sessionId, storeId } = options;
  const store: Attrs = {
    ...(sessionId ? { 'oci.session': sessionId } : {}),
    ...(storeId ? { 'oci.store': storeId } : {}),
  };
  return blob('oci-layout+blob', reference, store, options);
}

function blob(scheme: string, reference: string, store: Attrs, options: FileOptions & Constraints): State {
  const parsed = parseReference(reference);
  if (parsed.tag !== undefined)
    throw invalidArgument('tagged image reference not allowed for blob reference');
  if (parsed.digest === undefined) throw invalidArgument('checksum required in blob reference');
  const { filename, perm, uid, gid } = options;
  const attrs: Attrs = {
    ...(filename ? { 'http.filename': filename } : {}),
    ...(perm ? { 'http.perm': `0${(perm & 0o777).toString(8)}` } : {}),
    ...(uid ? { 'http.uid': String(uid) } : {}),
    ...(gid ? { 'http.gid': String(gid) } : {}),
    ...store,
  };
  return source(`${scheme}://${formatReference(parsed)}`, attrs, ['source.imageblob'], options);
}

export interface HttpOptions extends FileOptions, Constraints {
  readonly checksum?: Digest;
  /** Name of the secret whose value is the Authorization header. */
  readonly authHeaderSecret?: string;
  readonly header?: { readonly accept?: string; readonly userAgent?: string };
  readonly signature?: { readonly pubKey: string; readonly signature: string };
}

/** A file from an http or https address. */
export function http(url: string, options: HttpOptions = {}): State {
  const attrs: Attrs = {};
  const caps = ['source.http'];
  const put = (key: string, value: string | undefined, cap?: string): void => {
    if (!value) return;
    attrs[key] = value;
    if (cap) caps.push(cap);
  };
  const { header, signature, perm } = options;
  put('http.checksum', options.checksum, 'source.http.checksum');
  put('http.filename', options.filename);
  put('http.perm', perm ? `0${(perm & 0o777).toString(8)}` : '', 'source.http.perm');
  put('http.uid', options.uid ? String(options.uid) : '', 'soruce.http.uidgid');
  put('http.gid', options.gid ? String(options.gid) : '', 'soruce.http.uidgid');
  put('http.authheadersecret', options.authHeaderSecret, 'source.http.auth');
  put('http.header.accept', header?.accept);
  put('http.header.user-agent', header?.userAgent);
  if (header) caps.push('source.http.header');
  put('http.sig.pubkey', signature?.pubKey);
  put('http.sig.signature', signature?.signature);
  if (signature) caps.push('source.http.signatureverify');
  return source(url, attrs, caps, options);
}

export interface GitOptions extends Constraints {
  readonly ref?: string;
  readonly subdir?: string;
  readonly keepGitDir?: boolean;
  /** Names of secrets; by default the well-known ones are tried. */
  readonly authTokenSecret?: string;
  readonly authHeaderSecret?: string;
  /** Contents of a known_hosts file. Only for ssh. */
  readonly knownSshHosts?: string;
  /** Id of the agent socket. Only for ssh. */
  readonly mountSshSock?: string;
  readonly checksum?: string;
  readonly skipSubmodules?: boolean;
  readonly mtime?: 'checkout' | 'commit';
  readonly fetchByCommit?: boolean;
  /** Where commits come from instead of the address: `docker-image+blob://…` or `oci-layout+blob://…`. */
  readonly bundle?: { readonly locator: string; readonly sessionId?: string; readonly storeId?: string };
  /** Gives one file `bundle` instead of a tree. */
  readonly checkoutBundle?: boolean;
}

/** A checkout of the git repository at `address`, which has neither fragment nor query. */
export function git(address: string, options: GitOptions = {}): State {
  const { ref = '', subdir = '', authTokenSecret, authHeaderSecret } = options;
  const url = gitUrl(address);
  const fragment = ref === '' && subdir === '' ? '' : `#${ref}${subdir === '' ? '' : `:${subdir}`}`;
  const attrs: Attrs = {};
  const caps = ['source.git'];
  const put = (key: string, value: string | undefined, cap?: string): void => {
    if (!value) return;
    attrs[key] = value;
    if (cap) caps.push(cap);
  };
  const authCap =
    authTokenSecret !== undefined || authHeaderSecret !== undefined ? 'source.git.httpauth' : undefined;
  put('git.keepgitdir', options.keepGitDir ? 'true' : '', 'source.git.keepgitdir');
  put('git.fullurl', url?.remote ?? address, 'source.git.fullurl');
  put('git.authtokensecret', authTokenSecret ?? 'GIT_AUTH_TOKEN', authCap);
  put('git.authheadersecret', authHeaderSecret ?? 'GIT_AUTH_HEADER', authCap);
  if (url?.scheme === 'ssh') {
    put('git.knownsshhosts', options.knownSshHosts);
    put('git.mountsshsock', options.mountSshSock ?? 'default');
    caps.push('source.git.knownsshhosts', 'source.git.mountsshsock');
  }
  put('git.checksum', options.checksum, 'source.git.checksum');
  put('git.skipsubmodules', options.skipSubmodules ? 'true' : '', 'source.git.skipsubmodules');
  put('git.mtime', options.mtime, 'source.git.mtime');
  put('git.fetchbycommit', options.fetchByCommit ? 'true' : '', 'source.git.fetchbycommit');
  put('git.bundle', options.bundle?.locator, 'source.git.bundle');
  put('oci.session', options.bundle?.sessionId);
  put('oci.store', options.bundle?.storeId);
  put('git.checkoutbundle', options.checkoutBundle ? 'true' : '', 'source.git.checkoutbundle');
  // The same repository has the same identifier, however it is reached.
  const id = url ? `${url.host}${joinPath('/', url.path)}${fragment}` : address;
  return source(`git://${id}`, attrs, caps, options);
}

/** Undefined for what no git will understand: the daemon says so. */
function gitUrl(address: string): GitUrl | undefined {
  const complete = isGitTransport(address) || /^[a-zA-Z0-9]+:\/\//.test(address);
  try {
    return parseGitUrl(complete ? address : `https://${address}`);
  } catch {
    return undefined;
  }
}
