// Repositories as contexts and as sources of ADD, over http and ssh.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  FIRST_COMMIT_TIME,
  type GitServer,
  runGit,
  startGitServer,
  TestRepo,
} from '../../src/testing/git.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { git } from '../../src/llb/source.ts';
import { Definition } from '../../src/pb/ops.ts';
import { Daemon, freePort, TempDir } from './harness.ts';

let daemon: Daemon;
let server: GitServer;
let guarded: GitServer;
let repo: TestRepo;
let first: string;
const dir = new TempDir();
const authorization = `basic ${Buffer.from('x-access-token:t0ken').toString('base64')}`;

before(async () => {
  daemon = await Daemon.start();
  repo = new TestRepo(dir.join('repos/main'));
  const copyAll = 'FROM scratch\nCOPY . /\n';
  first = repo.commit({ Dockerfile: copyAll, a: '1', 'sub/Dockerfile': copyAll, 'sub/s': 's' });
  repo.git('tag', '-a', '-m', 'words', 'v1');
  repo.commit({ a: '2' });
  server = await startGitServer(dir.join('repos'));
  guarded = await startGitServer(dir.join('repos'), { authorization });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  await guarded?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

let builds = 0;

/** Builds with options of the frontend. @returns where the result lies */
async function build(options: readonly string[], args: readonly string[] = []): Promise<string> {
  const out = dir.join(`out${builds++}`);
  const { code, stderr } = await tryBuild(options, [...args, '--output', `type=local,dest=${out}`]);
  assert.equal(code, 0, stderr);
  return out;
}

function tryBuild(options: readonly string[], args: readonly string[] = []) {
  const opts = options.flatMap((option) => ['--opt', option]);
  return daemon.buildctl(['build', '--progress=plain', '--frontend', 'dockerfile.v0', ...opts, ...args]);
}

/** Builds a Dockerfile of ours. */
function buildFile(text: string, args: readonly string[] = []): Promise<string> {
  dir.write({ 'ctx/Dockerfile': text });
  return build(
    [],
    ['--local', `context=${dir.join('ctx')}`, '--local', `dockerfile=${dir.join('ctx')}`, ...args],
  );
}

const read = (...path: string[]): string => readFileSync(join(...path), 'utf8');

test('a repository as context: default branch, tag, folder, and with its Git folder', async () => {
  const context = `context=${server.url}/main.git`;
  const whole = await build([context]);
  assert.deepEqual(readdirSync(whole).sort(), ['Dockerfile', 'a', 'sub']);
  assert.equal(read(whole, 'a'), '2');
  assert.equal(lstatSync(join(whole, 'a')).mode & 0o7777, 0o644);
  assert.equal(lstatSync(join(whole, 'sub')).mode & 0o7777, 0o755);
  assert.equal(read(await build([`${context}#v1`]), 'a'), '1');
  assert.deepEqual(readdirSync(await build([`${context}?tag=v1&subdir=sub`])).sort(), ['Dockerfile', 's']);
  const scoped = await build([context, 'contextsubdir=sub']);
  assert.deepEqual(readdirSync(scoped).sort(), ['Dockerfile', 's']);
  const kept = await build([context, 'build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR=1']);
  assert.equal(runGit(kept, ['rev-parse', 'HEAD']), repo.git('rev-parse', 'HEAD'));
});

test('the address alone is enough', async () => {
  const out = dir.join('short');
  const address = `${server.url}/main.git#v1`;
  const { code, stderr } = await daemon.buildctl(['build', address, '--output', `type=local,dest=${out}`]);
  assert.equal(code, 0, stderr);
  assert.equal(read(out, 'a'), '1');
  const wrong = await daemon.buildctl(['build', `${server.url}/main.git?x=1`]);
  assert.match(wrong.stderr, /unexpected query "x"/);
});

test('times: of the commit where results are to be repeatable', async () => {
  const out = await build([`context=${server.url}/main.git#v1`, 'build-arg:SOURCE_DATE_EPOCH=context']);
  assert.equal(lstatSync(join(out, 'a')).mtimeMs, FIRST_COMMIT_TIME * 1000);
  const plain = await build([`context=${server.url}/main.git#v1`]);
  assert.ok(lstatSync(join(plain, 'a')).mtimeMs > (FIRST_COMMIT_TIME + 1e6) * 1000);
});

test('ADD of repositories, as a step of that name; named contexts', async () => {
  const url = `${server.url}/main.git`;
  const out = await buildFile(
    `FROM scratch\nADD ${url}?tag=v1 /tag/\nADD --keep-git-dir=true --checksum=${first.slice(0, 8)} ${url}#v1 /kept/\nADD --chown=7 ${url}#main:sub /part\n`,
  );
  assert.equal(read(out, 'tag/a'), '1');
  assert.ok(!existsSync(join(out, 'tag/.git')));
  assert.equal(runGit(join(out, 'kept'), ['describe', '--exact-match']), 'v1');
  assert.equal(read(out, 'part/s'), 's');
  const named = await buildFile('FROM scratch\nCOPY --from=other /sub/s /\n', [
    '--opt',
    `context:other=${url}#v1`,
  ]);
  assert.equal(read(named, 's'), 's');
  dir.write({ 'ctx/Dockerfile': `FROM scratch\nADD --checksum=0123456789 ${url}#v1 /\n` });
  const { code, stderr } = await daemon.tryBuild(dir.join('ctx'));
  assert.equal(code, 1);
  assert.match(stderr, /expected checksum to match 0123456789, got/);
});

test('a second build of the same commit uses the checkout of the first', async () => {
  const url = `${server.url}/main.git`;
  await buildFile(`FROM scratch\nADD ${url}#v1 /again\n`);
  const before = server.seen.length;
  dir.write({ 'ctx/Dockerfile': `FROM scratch\nADD ${url}#v1 /again\n` });
  const { stderr } = await daemon.tryBuild(dir.join('ctx'));
  assert.match(stderr, /ADD http.*\n(?:#.*\n)*#\d+ CACHED/);
  assert.ok(server.seen.slice(before).length <= 3, JSON.stringify(server.seen.slice(before)));
  const { stdout } = await daemon.buildctl(['du', '-v']);
  assert.match(stdout.toString(), /shared git repo for http/);
  assert.match(stdout.toString(), /source\.git\.checkout/);
});

test('a guarded repository, with a token of the client', async () => {
  const options = [`context=${guarded.url}/main.git`];
  const refused = await tryBuild(options);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /could not read Username/);
  dir.write({ token: 't0ken' });
  const out = await build(options, ['--secret', `id=GIT_AUTH_TOKEN,src=${dir.join('token')}`]);
  assert.equal(read(out, 'a'), '2');
  const log = daemon.log();
  assert.doesNotMatch(log + JSON.stringify(refused), /t0ken|eC1hY2Nlc3M/);
});

test('through the proxy of the daemon', async () => {
  await using behind = await Daemon.start({ env: { ALL_PROXY: server.url } });
  const out = dir.join('proxied');
  const address = 'http://git.invalid/main.git#v1';
  const { code, stderr } = await behind.buildctl(['build', address, '--output', `type=local,dest=${out}`]);
  assert.equal(code, 0, stderr);
  assert.equal(read(out, 'a'), '1');
});

/** An ssh server that serves the repositories to one key, which an agent holds. */
async function startSsh(
  stack: AsyncDisposableStack,
): Promise<{ port: number; agent: string; hostKey: string }> {
  const keys = dir.join('ssh');
  mkdirSync(keys, { mode: 0o700, recursive: true });
  for (const name of ['host', 'user'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(keys, name)]);
  const port = await freePort();
  mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const settings = {
    ListenAddress: `127.0.0.1:${port}`,
    HostKey: join(keys, 'host'),
    AuthorizedKeysFile: join(keys, 'user.pub'),
    PidFile: 'none',
    StrictModes: 'no',
    UsePAM: 'no',
    PermitRootLogin: 'yes',
  };
  dir.write({
    'ssh/config': Object.entries(settings)
      .map(([key, value]) => `${key} ${value}\n`)
      .join(''),
  });
  const stop = (child: ChildProcess) => stack.defer(() => void child.kill('SIGKILL'));
  stop(spawn('/usr/sbin/sshd', ['-D', '-e', '-f', join(keys, 'config')], { stdio: 'ignore' }));
  const agent = join(keys, 'agent');
  stop(spawn('ssh-agent', ['-D', '-a', agent], { stdio: 'ignore' }));
  await waitFor(async () => existsSync(agent) && (await answers(port)));
  execFileSync('ssh-add', ['-q', join(keys, 'user')], { env: { ...process.env, SSH_AUTH_SOCK: agent } });
  return { port, agent, hostKey: read(keys, 'host.pub').split(' ').slice(0, 2).join(' ') };
}

function answers(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = createConnection(port, '127.0.0.1');
    socket.once('error', () => done(false));
    socket.once('connect', () => done(true));
    socket.once('close', () => done(false));
    socket.unref();
  });
}

async function waitFor(ready: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await ready()); tries++) {
    assert.ok(tries < 200, 'a server did not start');
    await sleep(50);
  }
}

test('over ssh, with the agent of the client', { skip: !existsSync('/usr/sbin/sshd') }, async () => {
  await using stack = new AsyncDisposableStack();
  const { port, agent, hostKey } = await startSsh(stack);
  const user = execFileSync('id', ['-un'], { encoding: 'utf8' }).trim();
  const options = [`context=ssh://${user}@127.0.0.1:${port}${repo.dir}#v1`];
  const without = await tryBuild(options);
  assert.equal(without.code, 1);
  assert.match(without.stderr, /no SSH key "default" forwarded from the client/);
  const out = await build(options, ['--ssh', `default=${agent}`]);
  assert.equal(read(out, 'a'), '1');
  // The server has to be the one that the definition knows.
  const address = options[0]!.replace(/^context=|#.*$/g, '');
  const known = async (line: string, ref: string) => {
    const state = git(address, { ref, knownSshHosts: `[127.0.0.1]:${port} ${line}\n` });
    const input = Definition.encode(marshal(state)).finish();
    return daemon.buildctl(['build', '--progress=plain', '--ssh', `default=${agent}`], { input });
  };
  const right = await known(hostKey, 'refs/heads/main');
  assert.equal(right.code, 0, right.stderr);
  const [type, key = ''] = hostKey.split(' ');
  const wrong = await known(`${type} ${key.slice(0, -4)}AAAA`, 'refs/tags/v1');
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /Host key verification failed/);
});

test('images as earlier versions made them, at the same time as those of today', async () => {
  const url = `${server.url}/main.git#v1`;
  dir.write({ 'versions/Dockerfile': `FROM scratch\nADD ${url} /src\n` });
  const built = async (version: number, more = '') => {
    const out = dir.join(`version${builds++}`);
    const output = `type=oci,tar=false,compression=uncompressed,dest=${out}${more}`;
    const args = ['--compatibility-version', `${version}`, '--output', output];
    const result = await daemon.tryBuild(dir.join('versions'), args);
    if (result.code !== 0) return result.stderr;
    const blob = (digest: string) => readFileSync(join(out, 'blobs/sha256', digest.slice(7)));
    const index = JSON.parse(read(out, 'index.json'));
    const manifest = JSON.parse(blob(index.manifests[0].digest).toString());
    const listing = execFileSync('tar', ['-tv'], { input: blob(manifest.layers[0].digest) }).toString();
    return /^(\S+) .* src\/a$/m.exec(listing)?.[1];
  };
  const modes = await Promise.all([10, 20, 30, 10].map((version) => built(version)));
  assert.deepEqual(modes, ['-rw-rw-rw-', '-rw-r--r--', '-rw-r--r--', '-rw-rw-rw-']);
  assert.match((await built(11)) ?? '', /unsupported compatibility-version 11 \(supported: \[10 20 30\]\)/);
  assert.match((await built(40)) ?? '', /unsupported compatibility-version 40: upgrade buildkit/);
  const zstd = await built(10, ',compression=zstd');
  assert.match(zstd ?? '', /unsupported compatibility-version 10 feature oci exporter compression=zstd/);
});
