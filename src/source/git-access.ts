import { randomUUID } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, Code, hasCode } from '../base/errors.ts';
import type { RefManager, RefMounts } from '../cache/ref.ts';
import type { KeyedLock } from '../base/keyed-lock.ts';
import { parseGoUrl } from '../giturl/go-url.ts';
import type { OpContext, VertexProgress } from '../solver/types.ts';
import type { GitBundle } from './git-bundle-spec.ts';
import { GitCli } from './git-cli.ts';
import type { ResolveMemo } from './memo.ts';
import type { GitFound, GitSourceSpec } from './git-spec.ts';

/** What of the running step the source needs. */
export interface GitContext extends Pick<OpContext, 'signal' | 'sessions'> {
  readonly progress?: Pick<VertexProgress, 'log'>;
}

/** A client's ssh agent. */
export interface GitSsh {
  /** @throws unimplemented when the client forwards none */
  check(id: string, signal: AbortSignal): Promise<void>;
  listen(
    options: { readonly id: string; readonly uid: number; readonly gid: number; readonly mode: number },
    signal: AbortSignal,
  ): Promise<{ readonly path: string; close(): Promise<void> }>;
}

export interface GitSourceServices {
  readonly refs: Pick<RefManager, 'newMutable' | 'getMutable' | 'get' | 'search'>;
  readonly mountLocally: (view: RefMounts) => Promise<{ readonly path: string; release(): Promise<void> }>;
  /** A secret of the clients. @throws notFound */
  readonly secret: (id: string, context: GitContext) => Promise<Uint8Array>;
  readonly openBundle: (bundle: GitBundle, context: GitContext) => AsyncIterable<Uint8Array>;
  readonly ssh: (sessions: () => readonly string[]) => GitSsh;
  /** One for all sources of a worker. */
  readonly locks: KeyedLock;
  readonly searchPath: string;
  /** Environment of git: proxies. */
  readonly env: Readonly<Record<string, string>>;
  /** For files that live as long as a command. */
  readonly tmpDir: string;
  /** What the builds of these sessions have resolved. */
  readonly memo?: (sessions: readonly string[]) => ResolveMemo<GitFound> | undefined;
}

/** One token for all repositories of a host that many submodules come from. */
const SHARED_SCOPES = ['https://github.com/', 'https://www.github.com/'];

/** git with what the clients let it use for `spec`, given to `work` (FEATURES D37). */
export async function withGit<T>(
  spec: GitSourceSpec,
  services: GitSourceServices,
  context: GitContext,
  work: (git: GitCli) => Promise<T>,
): Promise<T> {
  const { searchPath, env } = services;
  const { signal, progress } = context;
  await using stack = new AsyncDisposableStack();
  const authorization = await findAuthorization(spec, services, context);
  const sshAuthSock = await agentSocket(spec, services, context, stack);
  const knownHosts = knownHostsFile(spec, services, stack);
  return await work(
    new GitCli({
      searchPath,
      env,
      signal,
      settings: authorization === undefined ? [] : [[headerSetting(spec.remote), authorization]],
      knownHosts,
      ...(sshAuthSock === undefined ? {} : { sshAuthSock }),
      ...(progress ? { log: (stream, data) => progress.log(stream, data) } : {}),
    }),
  );
}

function headerSetting(remote: string): string {
  const scope = SHARED_SCOPES.find((prefix) => remote.startsWith(prefix)) ?? remote;
  return `http.${scope}.extraheader`;
}

/** The header for the server: first the secrets that are named for its host. */
async function findAuthorization(
  spec: GitSourceSpec,
  services: GitSourceServices,
  context: GitContext,
): Promise<string | undefined> {
  const { authHeaderSecret, authTokenSecret, remote, bundle } = spec;
  if (bundle || !/^https?:/i.test(remote)) return undefined;
  const { host } = parseGoUrl(remote);
  for (const suffix of [`.${host}`, '']) {
    for (const name of [authHeaderSecret, authTokenSecret]) {
      if (name === '') continue;
      const secret = await secretOrNone(name + suffix, services, context);
      if (secret === undefined) continue;
      if (name === authHeaderSecret) return `Authorization: ${secret}`;
      return `Authorization: basic ${Buffer.from(`x-access-token:${secret}`).toString('base64')}`;
    }
  }
  return undefined;
}

async function secretOrNone(
  id: string,
  services: GitSourceServices,
  context: GitContext,
): Promise<string | undefined> {
  try {
    // Files of secrets tend to end with a line's end, headers must not.
    return Buffer.from(await services.secret(id, context))
      .toString()
      .replace(/\r?\n$/, '');
  } catch (error) {
    context.signal.throwIfAborted();
    if (hasCode(error, Code.notFound) || hasCode(error, Code.unimplemented)) return undefined;
    throw BuildError.wrap(error, `failed to retrieve git auth secret ${id}`);
  }
}

async function agentSocket(
  spec: GitSourceSpec,
  services: GitSourceServices,
  context: GitContext,
  stack: AsyncDisposableStack,
): Promise<string | undefined> {
  const id = spec.mountSshSock;
  if (id === '') return undefined;
  const ssh = services.ssh(context.sessions);
  try {
    await ssh.check(id, context.signal);
  } catch (error) {
    context.signal.throwIfAborted();
    if (!hasCode(error, Code.unimplemented)) throw error;
    if (spec.bundle) return undefined; // only submodules could need it
    throw new BuildError(`no SSH key ${JSON.stringify(id)} forwarded from the client`, {
      cause: error,
      hint: `pass it with --ssh ${id}`,
    });
  }
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  const socket = await ssh.listen({ id, uid, gid, mode: 0o700 }, context.signal);
  stack.defer(() => socket.close());
  return socket.path;
}

function knownHostsFile(
  spec: GitSourceSpec,
  services: GitSourceServices,
  stack: AsyncDisposableStack,
): string {
  if (spec.knownSshHosts === '') return '';
  const path = join(services.tmpDir, `known-hosts-${randomUUID()}`);
  stack.defer(() => rmSync(path, { force: true }));
  writeFileSync(path, spec.knownSshHosts, { mode: 0o600, flag: 'wx' });
  return path;
}
