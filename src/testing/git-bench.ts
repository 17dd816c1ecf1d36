import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, Code, notFound } from '../base/errors.ts';
import { KeyedLock } from '../base/keyed-lock.ts';
import type { LocalRefManager } from '../cache/manager.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { GitSource } from '../source/git.ts';
import type { GitContext, GitSourceServices } from '../source/git-access.ts';
import { gitSourceSpec } from '../source/git-spec.ts';
import { LocalMounter } from '../store/local-mounter.ts';
import { openTestCache } from './cache.ts';
import { withMounted } from './contracts/snapshot.ts';
import { type GitServer, startGitServer, TestRepo } from './git.ts';
import { openTestStore, temporaryRoot } from './store.ts';

/** A repository, a server for it, and sources over a store that has neither seen. */
export interface GitBench extends AsyncDisposable {
  readonly root: string;
  readonly services: GitSourceServices;
  readonly refs: LocalRefManager;
  readonly context: GitContext;
  readonly secrets: Map<string, string>;
  /** Blobs of bundles, by digest. */
  readonly blobs: Map<string, Uint8Array>;
  readonly repo: TestRepo;
  readonly server: GitServer;
  source(ref?: string, attrs?: Readonly<Record<string, string>>): GitSource;
}

export async function gitBench(
  options: { sha256?: boolean; server?: (root: string) => Promise<GitServer> } = {},
): Promise<GitBench> {
  const stack = new AsyncDisposableStack();
  const root = stack.use(temporaryRoot());
  const store = openTestStore(root.path);
  stack.defer(() => store.close());
  const refs = openTestCache(store);
  stack.defer(() => refs.close());
  const mounter = new LocalMounter(join(root.path, 'git-mounts'));
  const secrets = new Map<string, string>();
  const blobs = new Map<string, Uint8Array>();
  const services: GitSourceServices = {
    refs,
    mountLocally: async (view) => {
      const mounted = mounter.mount(view.mounts);
      return {
        path: mounted.path,
        release: async () => {
          await mounted[Symbol.asyncDispose]();
          await view.release();
        },
      };
    },
    secret: async (id) => {
      const value = secrets.get(id);
      if (value === undefined) throw notFound(`secret ${id}: not found`);
      return Buffer.from(value);
    },
    ssh: () => ({
      check: async () => {
        throw new BuildError('no agent', { code: Code.unimplemented });
      },
      listen: async () => ({ path: '', close: async () => {} }),
    }),
    async *openBundle({ digest }) {
      yield blobs.get(digest) ?? Buffer.alloc(0);
    },
    locks: new KeyedLock(),
    searchPath: process.env.PATH ?? '',
    env: {},
    tmpDir: root.path,
  };
  const repo = new TestRepo(join(root.path, 'repos/main'), options);
  const server = stack.use(
    await (options.server ?? ((path: string) => startGitServer(path)))(join(root.path, 'repos')),
  );
  const context = { signal: AbortSignal.timeout(30_000), sessions: () => [] };
  return {
    root: root.path,
    services,
    refs,
    context,
    secrets,
    blobs,
    repo,
    server,
    source: (ref = '', attrs = {}) => {
      const full = { 'git.fullurl': `${server.url}/main.git`, ...attrs };
      return new GitSource(gitSourceSpec(`${server.host}/main.git${ref}`, full), services);
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

export async function inTree<T>(ref: ImmutableRef, use: (dir: string) => T): Promise<T> {
  await using view = await ref.mount(true);
  return withMounted(view.mounts, use);
}

/** Files of a tree and their contents. */
export async function filesOf(b: GitBench, source: GitSource): Promise<Record<string, string>> {
  await using ref = await source.snapshot(b.context);
  return inTree(ref, (dir) => listFiles(dir));
}

function listFiles(dir: string): Record<string, string> {
  const names = readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort();
  const files = names.filter((name) => lstatSync(join(dir, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(dir, name), 'utf8')]));
}
