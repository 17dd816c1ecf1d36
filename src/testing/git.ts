// Repositories for tests, and a server for them: git's own CGI program behind node:http.
import { execFileSync, type ExecFileSyncOptionsWithStringEncoding, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';

const ENV = {
  PATH: process.env.PATH ?? '',
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_AUTHOR_NAME: 'A',
  GIT_AUTHOR_EMAIL: 'a@example.com',
  GIT_COMMITTER_NAME: 'C',
  GIT_COMMITTER_EMAIL: 'c@example.com',
};
/** Time of the first commit; each further one comes a minute later. */
export const FIRST_COMMIT_TIME = 1_500_000_000;

/** Runs git in a folder, without anybody's configuration. */
export function runGit(dir: string, args: readonly string[], time = FIRST_COMMIT_TIME): string {
  const date = `${time} +0000`;
  const options: ExecFileSyncOptionsWithStringEncoding = {
    cwd: dir,
    env: { ...ENV, GIT_AUTHOR_DATE: date, GIT_COMMITTER_DATE: date },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  };
  const settings = ['-c', 'protocol.file.allow=always', '-c', 'safe.directory=*'];
  return execFileSync('git', [...settings, ...args], options).trim();
}

/** A repository with a working tree. */
export class TestRepo {
  readonly dir: string;
  #time = FIRST_COMMIT_TIME;

  constructor(dir: string, options: { readonly sha256?: boolean } = {}) {
    this.dir = dir;
    mkdirSync(dir, { recursive: true });
    const format = options.sha256 ? ['--object-format=sha256'] : [];
    this.git('init', '-q', '-b', 'main', ...format);
    this.git('config', 'uploadpack.allowAnySHA1InWant', 'true');
  }

  git(...args: readonly string[]): string {
    return runGit(this.dir, args, this.#time);
  }

  /** Writes files and commits all there is. @returns the commit */
  commit(files: Readonly<Record<string, string>>, message = 'a commit'): string {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(this.dir, name)), { recursive: true });
      writeFileSync(join(this.dir, name), content);
    }
    this.git('add', '-A');
    this.git('commit', '-q', '--allow-empty', '-m', message);
    this.#time += 60;
    return this.git('rev-parse', 'HEAD');
  }
}

export interface SeenGitRequest {
  readonly path: string;
  readonly authorization: string | undefined;
}

export interface GitServer extends AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  readonly url: string;
  readonly seen: SeenGitRequest[];
}

export interface GitServerOptions {
  /** The header without which nothing is served. */
  readonly authorization?: string;
  /** Requests that fail: with a status, by a reset connection, or in the midst of the answer. */
  readonly fail?: (path: string) => number | 'reset' | 'cut' | undefined;
  /** Requests that are never answered. */
  readonly stall?: (path: string) => boolean;
}

/** Serves the repositories below `root` at `/NAME/.git` and `/NAME.git`. */
export async function startGitServer(root: string, options: GitServerOptions = {}): Promise<GitServer> {
  const seen: SeenGitRequest[] = [];
  const server = createServer((request, response) => {
    const { authorization } = request.headers;
    const path = request.url ?? '/';
    seen.push({ path, authorization });
    if (options.stall?.(path)) return;
    if (options.authorization !== undefined && authorization !== options.authorization) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end();
      return;
    }
    const failure = options.fail?.(path);
    if (typeof failure === 'number') return void response.writeHead(failure).end();
    if (failure === 'reset') return void request.socket.resetAndDestroy();
    if (failure === 'cut') cutShort(response);
    serve(root, request, response).catch(() => response.destroy());
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    url: `http://${host}`,
    seen,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

/** The answer ends after its first few bytes. */
function cutShort(response: ServerResponse): void {
  const write = response.write.bind(response) as (chunk: Buffer) => boolean;
  response.write = (chunk: Buffer) => {
    write(chunk.subarray(0, 20));
    setImmediate(() => response.destroy());
    return true;
  };
}

async function serve(root: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://host');
  const header = (name: string): string => String(request.headers[name] ?? '');
  const child = spawn('git', ['http-backend'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: {
      ...ENV,
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: '1',
      PATH_INFO: url.pathname.replace(/^\/([^/]+)\.git\//, '/$1/.git/'),
      QUERY_STRING: url.search.slice(1),
      REQUEST_METHOD: request.method ?? 'GET',
      CONTENT_TYPE: header('content-type'),
      CONTENT_LENGTH: header('content-length'),
      HTTP_CONTENT_ENCODING: header('content-encoding'),
      GIT_PROTOCOL: header('git-protocol'),
      // The repositories belong to whoever runs the test.
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: 'safe.directory',
      GIT_CONFIG_VALUE_0: '*',
    },
  });
  const feeding = pipeline(request, child.stdin).catch(() => {}); // git may end before it has read all
  let head = Buffer.alloc(0);
  let started = false;
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    if (started) {
      response.write(chunk);
      continue;
    }
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) continue;
    started = true;
    const lines = head.subarray(0, end).toString().split('\r\n');
    const headers = new Map(lines.map((line) => line.split(': ', 2) as [string, string]));
    const status = Number.parseInt(headers.get('Status') ?? '200', 10);
    headers.delete('Status');
    response.writeHead(status, Object.fromEntries(headers));
    response.write(head.subarray(end + 4));
  }
  response.end();
  await feeding;
}
