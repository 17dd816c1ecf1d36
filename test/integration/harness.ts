// Real daemons, clients and registries for the integration tests.
// BUILDKITD and BUILDCTL name other binaries than those of bin/, e.g. to test against another implementation.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkOutputs, liveRegistries } from './checked-outputs.ts';

const ROOT = resolve(import.meta.dirname, '../..');
export const BUILDKITD = process.env.BUILDKITD ?? join(ROOT, 'bin/buildkitd');
export const BUILDCTL = process.env.BUILDCTL ?? join(ROOT, 'bin/buildctl');
/** True when the daemon under test is ours. */
export const OUR_DAEMON = process.env.BUILDKITD === undefined;

const START_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 30_000;

/** A folder that is removed with everything in it. */
export class TempDir implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'bkt-'));

  /** Writes files, by path; a text or bytes. */
  write(files: Readonly<Record<string, string | Uint8Array>>): string {
    for (const [name, content] of Object.entries(files)) {
      const path = join(this.path, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
    }
    return this.path;
  }

  join(...parts: string[]): string {
    return join(this.path, ...parts);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export interface RunResult {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  /** Sends a signal to the process, or looks at it, while it runs. */
  readonly during?: (child: ChildProcess) => void;
  /** Told of what comes on the standard error as it comes. */
  readonly onStderr?: (text: string) => void;
}

/** Runs a program to its end. */
export async function run(
  file: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const child = spawn(file, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, BUILDKIT_HOST: undefined, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const collect = async (stream: AsyncIterable<Buffer>, tell?: (text: string) => void): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    for await (const chunk of stream) {
      chunks.push(chunk);
      tell?.(chunk.toString());
    }
    return Buffer.concat(chunks);
  };
  const ended = new Promise<number | null>((done, fail) => {
    child.once('error', fail);
    child.once('close', done);
  });
  child.stdin.on('error', () => {}); // a program that does not read its input
  child.stdin.end(options.input ?? '');
  options.during?.(child);
  const errors = collect(child.stderr, options.onStderr);
  const [stdout, stderr, code] = await Promise.all([collect(child.stdout), errors, ended]);
  return { code, stdout, stderr: stderr.toString() };
}

/** Paths of a daemon and of the client that goes with it. */
export interface Programs {
  readonly buildkitd: string;
  readonly buildctl: string;
}

export interface DaemonOptions {
  /** Default BUILDKITD and BUILDCTL. */
  readonly programs?: Programs;
  /** State directory that outlives the daemon; default a temporary one. */
  readonly root?: string;
  /** Added to buildkitd.toml. */
  readonly config?: string;
  /** Keys of its top level: they stand before all tables. */
  readonly topLevel?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory of the daemon. */
  readonly cwd?: string;
  /** A program and arguments that become the daemon: they get its command line after theirs. */
  readonly through?: readonly string[];
}

/** A daemon of its own, on a socket of its own. */
export class Daemon implements AsyncDisposable {
  readonly dir = new TempDir();
  readonly root: string;
  readonly address: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #client: string;

  static async start(options: DaemonOptions = {}): Promise<Daemon> {
    const daemon = new Daemon(options);
    try {
      await daemon.#ready();
      return daemon;
    } catch (error) {
      await daemon[Symbol.asyncDispose]();
      throw error;
    }
  }

  constructor(options: DaemonOptions) {
    this.root = options.root ?? this.dir.join('root');
    const { buildkitd, buildctl } = options.programs ?? { buildkitd: BUILDKITD, buildctl: BUILDCTL };
    this.#client = buildctl;
    const socket = this.dir.join('d.sock');
    this.address = `unix://${socket}`;
    const config = `[worker.containerd]\nenabled = false\n[worker.oci]\nnetworkMode = "host"\n`;
    this.dir.write({ 'buildkitd.toml': `${options.topLevel ?? ''}${config}${options.config ?? ''}` });
    const args = ['--config', this.dir.join('buildkitd.toml'), '--root', this.root, '--addr', this.address];
    const log = openSync(this.dir.join('log'), 'a');
    const env = { ...process.env, ...options.env };
    const [file = buildkitd, ...all] = [
      ...(options.through ?? []),
      buildkitd,
      ...args,
      ...(options.args ?? []),
    ];
    const cwd = options.cwd ?? process.cwd();
    this.#child = spawn(file, all, { stdio: ['ignore', log, log], env, cwd });
    closeSync(log);
    this.#ended = new Promise((done) => {
      this.#child.once('error', () => done());
      this.#child.once('close', () => done());
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  log(): string {
    return readFileSync(this.dir.join('log'), 'utf8');
  }

  async #ready(): Promise<void> {
    const limit = Date.now() + START_LIMIT_MS;
    for (;;) {
      const { code } = await run(this.#client, ['--addr', this.address, 'debug', 'workers']);
      if (code === 0) return;
      const ended = this.#child.exitCode !== null || this.#child.pid === undefined;
      if (ended || Date.now() > limit) throw new Error(`the daemon did not start:\n${this.log()}`);
      await sleep(100);
    }
  }

  /** Runs buildctl against this daemon; images and caches that it makes must be whole. */
  async buildctl(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const result = await run(this.#client, ['--addr', this.address, ...args], options);
    if (args[0] === 'build' && result.code === 0) await checkOutputs(args, options.cwd);
    return result;
  }

  /** Builds the Dockerfile of `context`. @returns what buildctl said; a failed build fails the test. */
  async build(context: string, args: readonly string[] = [], options: RunOptions = {}): Promise<RunResult> {
    const result = await this.tryBuild(context, args, options);
    assert.equal(result.code, 0, result.stderr);
    return result;
  }

  async tryBuild(
    context: string,
    args: readonly string[] = [],
    options: RunOptions = {},
  ): Promise<RunResult> {
    const locals = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
    const command = ['build', '--progress', 'plain', '--frontend', 'dockerfile.v0', ...locals, ...args];
    return await this.buildctl(command, options);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_LIMIT_MS);
    await this.#ended;
    clearTimeout(timer);
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.pid !== undefined) await this.stop();
    this.dir[Symbol.dispose]();
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** A real registry (Debian's docker-registry) with nothing in it. */
export class Registry implements AsyncDisposable {
  readonly dir = new TempDir();
  readonly #child: ChildProcess;
  readonly host: string;

  static async start(): Promise<Registry> {
    const registry = new Registry(await freePort());
    for (let tries = 0; tries < 100; tries++) {
      const answer = await fetch(`http://${registry.host}/v2/`).catch(() => undefined);
      if (answer?.ok) {
        liveRegistries.add(registry.host);
        return registry;
      }
      await sleep(50);
    }
    await registry[Symbol.asyncDispose]();
    throw new Error('the registry did not start');
  }

  constructor(port: number) {
    this.host = `127.0.0.1:${port}`;
    const config = {
      version: '0.1',
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: this.dir.join('data') }, delete: { enabled: true } },
      http: { addr: this.host },
    };
    // JSON is YAML.
    this.dir.write({ 'config.yml': JSON.stringify(config) });
    this.#child = spawn('docker-registry', ['serve', this.dir.join('config.yml')], { stdio: 'ignore' });
  }

  /** For buildkitd.toml: this registry speaks plain HTTP, and docker.io is found here. */
  get config(): string {
    return `[registry."docker.io"]\nmirrors = ["${this.host}"]\n[registry."${this.host}"]\nhttp = true\n`;
  }

  /** Puts busybox into it under `name`; an image of one layer. @returns the reference */
  async pushBusybox(name = 'library/busybox', tag = 'latest'): Promise<string> {
    return await this.pushImage(name, tag, [busyboxLayer()]);
  }

  async pushImage(
    name: string,
    tag: string,
    layers: readonly Buffer[],
    architecture = process.arch === 'arm64' ? 'arm64' : 'amd64',
  ): Promise<string> {
    const descriptors = await Promise.all(layers.map((layer) => this.#blob(name, LAYER_TYPE, layer)));
    const config = {
      architecture,
      os: 'linux',
      config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'] },
      rootfs: { type: 'layers', diff_ids: layers.map(digest) },
    };
    const manifest = {
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      config: await this.#blob(name, CONFIG_TYPE, Buffer.from(JSON.stringify(config))),
      layers: descriptors,
    };
    const answer = await fetch(`http://${this.host}/v2/${name}/manifests/${tag}`, {
      method: 'PUT',
      headers: { 'content-type': MANIFEST_TYPE },
      body: JSON.stringify(manifest),
    });
    assert.equal(answer.status, 201, await answer.text());
    return `${this.host}/${name}:${tag}`;
  }

  async #blob(name: string, mediaType: string, data: Buffer) {
    const start = await fetch(`http://${this.host}/v2/${name}/blobs/uploads/`, { method: 'POST' });
    const url = new URL(start.headers.get('location') ?? '', `http://${this.host}`);
    url.searchParams.set('digest', digest(data));
    const answer = await fetch(url, { method: 'PUT', body: new Uint8Array(data) });
    assert.equal(answer.status, 201, await answer.text());
    return { mediaType, digest: digest(data), size: data.length };
  }

  /** The manifest, or index, that a tag or digest names. */
  async manifest(name: string, reference: string): Promise<Record<string, unknown>> {
    const answer = await fetch(`http://${this.host}/v2/${name}/manifests/${reference}`, {
      headers: { accept: `${MANIFEST_TYPE}, ${INDEX_TYPE}` },
    });
    assert.equal(answer.status, 200);
    return (await answer.json()) as Record<string, unknown>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    liveRegistries.delete(this.host);
    const ended = new Promise((done) => this.#child.once('close', done));
    this.#child.kill();
    await ended;
    this.dir[Symbol.dispose]();
  }
}

const LAYER_TYPE = 'application/vnd.oci.image.layer.v1.tar';
const CONFIG_TYPE = 'application/vnd.oci.image.config.v1+json';
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
/** What tests use in RUN. */
const APPLETS =
  'sh cat echo ls mkdir rm cp mv ln sleep true false test stat id env touch grep wc sha256sum seq head tail chmod chown find mount sort tr cut date pwd tar dd sed awk yes printf kill ps df'.split(
    ' ',
  );
let layer: Buffer | undefined;

/** Files of a small system: busybox and links to it. */
export function busyboxLayer(): Buffer {
  if (layer) return layer;
  using dir = new TempDir();
  for (const name of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root']) mkdirSync(dir.join(name));
  execFileSync('cp', ['/usr/bin/busybox', dir.join('bin/busybox')]);
  for (const name of APPLETS) execFileSync('ln', ['-s', 'busybox', dir.join('bin', name)]);
  dir.write({ 'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n', 'etc/group': 'root:x:0:\n' });
  const flags = ['--sort=name', '--mtime=@1600000000', '--owner=0', '--group=0', '--numeric-owner'];
  layer = execFileSync('tar', [...flags, '-C', dir.path, '-c', '.'], { maxBuffer: 64 << 20 });
  return layer;
}

export function digest(data: Uint8Array): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}
