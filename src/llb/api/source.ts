import { invalidArgument } from '../../base/errors.ts';
import { isDigest, type Digest } from '../../base/digest.ts';
import { formatPlatformFull } from '../../oci/platform.ts';
import { formatReference, normalizeReference, parseReference } from '../../oci/reference.ts';
import type { Constraints } from '../node.ts';
import * as inner from '../source.ts';
import { scratch as emptyTree, type State as Tree } from '../state.ts';
import { Lazy } from './lazy.ts';
import { constraintsOf, type StepOptions } from './options.ts';
import { type ImageConfig, withConfig } from './settings.ts';
import { State } from './state.ts';

/** The empty tree. Yields no step; as an input it is -1. */
export function scratch(): State {
  return new State(Lazy.of(emptyTree()));
}

/** What an image is wanted for. */
export interface ResolveImageOptions {
  /** `os/architecture[/variant]` */
  readonly platform: string;
  readonly resolveMode: 'default' | 'pull' | 'local';
  readonly signal?: AbortSignal;
}

/** What is known of an image. */
export interface ResolvedImage {
  /** Digest of the manifest or index, `sha256:…`. */
  readonly digest?: string;
  /** The image config: its JSON, as bytes, as text or parsed. */
  readonly config: ImageConfig;
  /** The image to take instead. */
  readonly reference?: string;
}

/**
 * Looks an image up when the graph is marshalled.
 * @param reference in full: `docker.io/library/alpine:3.20`
 */
export type ImageResolver = (
  reference: string,
  options: ResolveImageOptions,
) => ResolvedImage | Promise<ResolvedImage>;

/** Options of `image`. */
export interface ImageOptions extends StepOptions {
  /** `image.resolvemode`: ask the registry always (`pull`), or the daemon's own images first (`local`). */
  readonly resolveMode?: 'default' | 'pull' | 'local';
  /** `image.recordtype`: how the daemon counts what it keeps of the image. */
  readonly recordType?: 'internal' | 'frontend';
  /** `image.layerlimit`: only the first layers. */
  readonly layerLimit?: number;
  /** `image.checksum`: the digest of the manifest, or the build fails. */
  readonly checksum?: string;
  /** Its answer sets variables, directory and platform of the state, as `State.withImageConfig` does. */
  readonly resolver?: ImageResolver;
  /** The digest that the resolver tells becomes part of the source, so that the graph names one image for ever. */
  readonly resolveDigest?: boolean;
}

/**
 * The tree of an image: SourceOp `docker-image://<reference in full>`.
 * @param reference in any spelling: `alpine`, `alpine:3.20@sha256:…`, `registry.example:5000/team/app`
 */
export function image(reference: string, options: ImageOptions = {}): State {
  const { resolver, resolveDigest = false, checksum } = options;
  const attrs: inner.ImageOptions = {
    ...pick(options, 'resolveMode', 'recordType', 'layerLimit'),
    ...(checksum === undefined ? {} : { checksum: digest(checksum) }),
  };
  const full = normalizeReference(reference);
  const at = (name: string): Lazy<Tree> =>
    constraintsOf(options).map((constraints) => inner.image(name, { ...constraints, ...attrs }));
  if (!resolver) return new State(at(full));
  const pinned = resolveDigest && parseReference(full).digest === undefined;
  const asWritten = at(full);
  return new State(
    Lazy.later(async (context) => {
      const { platform = context.platform } = await constraintsOf(options).resolve(context);
      const { signal } = context;
      const resolved = await resolver(full, {
        platform: formatPlatformFull(platform),
        resolveMode: options.resolveMode ?? 'default',
        ...(signal ? { signal } : {}),
      });
      const found = pinned ? at(pinnedReference(full, resolved)) : asWritten;
      return withConfig(await found.resolve(context), resolved.config);
    }),
  );
}

function pinnedReference(full: string, resolved: ResolvedImage): string {
  const reference = parseReference(resolved.reference ?? full);
  return formatReference(
    resolved.digest === undefined ? reference : { ...reference, digest: digest(resolved.digest) },
  );
}

/** Options of `local`. */
export interface LocalOptions extends StepOptions {
  /** `local.session`: of this session only; of any of the build when left out, and then `local.unique` is set. */
  readonly sessionId?: string;
  /** `local.includepattern` */
  readonly includePatterns?: readonly string[];
  /** `local.excludepatterns` */
  readonly excludePatterns?: readonly string[];
  /** `local.followpaths`: what these paths reach by links is sent as well. */
  readonly followPaths?: readonly string[];
  /** `local.sharedkeyhint`: folders with the same hint send only what has changed since the last of them. */
  readonly sharedKeyHint?: string;
  /** `local.differ`: how files are compared with those of the last time. */
  readonly differ?: { readonly type: 'none' | 'metadata'; readonly required?: boolean };
  /** `local.metadatatransfer`: names and attributes only, and the content of what the exceptions match. */
  readonly metadataOnly?: { readonly exceptions?: readonly string[] };
}

/** A folder of the client, by the name under which it gives it: SourceOp `local://<name>`. */
export function local(name: string, options: LocalOptions = {}): State {
  const attrs = pick(
    options,
    'sessionId',
    'includePatterns',
    'excludePatterns',
    'followPaths',
    'sharedKeyHint',
    'differ',
    'metadataOnly',
  );
  return source(options, (constraints) => inner.local(name, { ...constraints, ...attrs }));
}

/** What `git` may do beside a checkout of the commit; parts that exclude one another cannot be said together. */
export type GitResult =
  | {
      /** `git.keepgitdir` */
      readonly keepGitDir?: boolean;
      /** The tree is this folder of the repository. */
      readonly subdir?: string;
      readonly checkoutBundle?: false;
    }
  | {
      /** `git.checkoutbundle`: one file `bundle` instead of a tree. */
      readonly checkoutBundle: true;
      readonly keepGitDir?: never;
      readonly subdir?: never;
    };

/** Where `git` has the commit from; what rests on a commit needs its checksum. */
export type GitCommit =
  | {
      /** `git.checksum`: the commit or annotated tag, at least its first digits. */
      readonly checksum?: string;
      readonly fetchByCommit?: false;
      readonly bundle?: never;
    }
  | {
      readonly checksum: string;
      /** `git.fetchbycommit`: the commit is fetched without looking at where `ref` points now. */
      readonly fetchByCommit?: boolean;
      /** `git.bundle`: a file of commits instead of the remote, `docker-image+blob://…` or `oci-layout+blob://…`. */
      readonly bundle?: { readonly locator: string; readonly sessionId?: string; readonly storeId?: string };
    };

/** Options of `git`. */
export type GitOptions = StepOptions &
  GitResult &
  GitCommit & {
    /** Branch, tag or commit; the default branch when left out. */
    readonly ref?: string;
    /** `git.authtokensecret`: name of the secret, GIT_AUTH_TOKEN when left out. */
    readonly authTokenSecret?: string;
    /** `git.authheadersecret`: name of the secret, GIT_AUTH_HEADER when left out. */
    readonly authHeaderSecret?: string;
    /** `git.knownsshhosts`: lines of a known_hosts file. Only for ssh. */
    readonly knownSshHosts?: string | readonly string[];
    /** `git.mountsshsock`: id of the agent, `default` when left out. Only for ssh. */
    readonly mountSshSock?: string;
    /** `git.skipsubmodules` */
    readonly skipSubmodules?: boolean;
    /** `git.mtime`: modification times are those of the checkout, or that of the commit. */
    readonly mtime?: 'checkout' | 'commit';
  };

/**
 * A checkout of a repository: SourceOp `git://<host>/<path>[#ref[:subdir]]`, the same however it is reached.
 * @param address `https://…`, `ssh://…`, `git@host:path`, `git://…`, or without a scheme, which is https
 */
export function git(address: string, options: GitOptions = {}): State {
  if (/[#?]/.test(address))
    throw invalidArgument(`say ref and subdir as options, not in the address: ${address}`);
  const { knownSshHosts, ...rest } = options as GitOptions & { readonly knownSshHosts?: string | string[] };
  const hosts = knownSshHosts === undefined ? [] : [knownSshHosts].flat();
  const attrs = {
    ...pick(
      rest as inner.GitOptions,
      'ref',
      'subdir',
      'keepGitDir',
      'checkoutBundle',
      'checksum',
      'fetchByCommit',
      'bundle',
      'authTokenSecret',
      'authHeaderSecret',
      'mountSshSock',
      'skipSubmodules',
      'mtime',
    ),
    ...(hosts.length === 0
      ? {}
      : { knownSshHosts: hosts.map((line) => `${line.replace(/\n$/, '')}\n`).join('') }),
  };
  return source(options, (constraints) => inner.git(address, { ...constraints, ...attrs }));
}

/** How a source that gives one file writes it. */
export interface FileInfo {
  /** `http.filename`; the daemon finds a name when left out. */
  readonly filename?: string;
  /** `http.perm`: permission bits. */
  readonly perm?: number;
  /** `http.uid` */
  readonly uid?: number;
  /** `http.gid` */
  readonly gid?: number;
}

/** Options of `http`. */
export interface HttpOptions extends StepOptions, FileInfo {
  /** `http.checksum`: digest of the content, or the build fails. */
  readonly checksum?: string;
  /** `http.authheadersecret`: name of the secret whose value is the Authorization header. */
  readonly authHeaderSecret?: string;
  /** `http.header.…` */
  readonly header?: { readonly accept?: string; readonly userAgent?: string };
  /** `http.sig.…`: an armored detached OpenPGP signature that the content must have. */
  readonly signature?: { readonly pubKey: string; readonly signature: string };
}

/** A folder with the one file that an address gives: SourceOp `<url>`. */
export function http(url: string, options: HttpOptions = {}): State {
  const { checksum } = options;
  const attrs: inner.HttpOptions = {
    ...pick(options, 'filename', 'perm', 'uid', 'gid', 'authHeaderSecret', 'header', 'signature'),
    ...(checksum === undefined ? {} : { checksum: digest(checksum) }),
  };
  if (!/^https?:\/\//.test(url)) throw invalidArgument(`not an http or https address: ${url}`);
  return source(options, (constraints) => inner.http(url, { ...constraints, ...attrs }));
}

/** An OCI layout that the client gives. */
export interface OciStore {
  /** `oci.session`: of this session only. */
  readonly sessionId?: string;
  /** `oci.store`: the name under which the client gives it; the name in the reference when left out. */
  readonly storeId?: string;
}

/** Options of `ociLayout`. */
export interface OciLayoutOptions extends StepOptions, OciStore {
  /** `oci.layerlimit`: only the first layers. */
  readonly layerLimit?: number;
}

/** The tree of an image of an OCI layout: SourceOp `oci-layout://<reference>`, `name[:tag]@digest` as it is. */
export function ociLayout(reference: string, options: OciLayoutOptions = {}): State {
  const attrs = pick(options, 'sessionId', 'storeId', 'layerLimit');
  return source(options, (constraints) => inner.ociLayout(reference, { ...constraints, ...attrs }));
}

/** A folder with one blob of a registry: SourceOp `docker-image+blob://<name>@<digest>`. */
export function imageBlob(reference: string, options: StepOptions & FileInfo = {}): State {
  const attrs = pick(options, 'filename', 'perm', 'uid', 'gid');
  return source(options, (constraints) => inner.imageBlob(reference, { ...constraints, ...attrs }));
}

/** A folder with one blob of an OCI layout: SourceOp `oci-layout+blob://<name>@<digest>`. */
export function ociLayoutBlob(reference: string, options: StepOptions & FileInfo & OciStore = {}): State {
  const attrs = pick(options, 'filename', 'perm', 'uid', 'gid', 'sessionId', 'storeId');
  return source(options, (constraints) => inner.ociLayoutBlob(reference, { ...constraints, ...attrs }));
}

function source(options: StepOptions, make: (constraints: Constraints) => Tree): State {
  return new State(constraintsOf(options).map(make));
}

function pick<T extends object, K extends keyof T>(options: T, ...keys: readonly K[]): Pick<T, K> {
  const said = keys.filter((key) => options[key] !== undefined);
  return Object.fromEntries(said.map((key) => [key, options[key]])) as Pick<T, K>;
}

function digest(text: string): Digest {
  if (!isDigest(text)) throw invalidArgument(`not a digest: ${text}`);
  return text;
}
