// The programs of examples/sdk, as their users run them, against the daemon under test.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import {
  BUILDCTL,
  busyboxLayer,
  Daemon,
  OUR_DAEMON,
  Registry,
  run,
  type RunResult,
  TempDir,
} from './harness.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const DEFAULT_SOCKET = '/run/buildkit/buildkitd.sock';
const built = existsSync(join(ROOT, 'dist/npm/client.mjs'));
const skip = built ? false : 'dist/ is not built';
const dir = new TempDir();
let registry: Registry;
let daemon: Daemon;
/** An image with Node. */
let node = '';

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({ config: registry.config });
  node = await registry.pushImage('node', '1', [busyboxLayer(), nodeLayer()]);
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** The Node that runs this, and the libraries that it needs. */
function nodeLayer(): Buffer {
  const libraries = execFileSync('ldd', [process.execPath], { encoding: 'utf8' }).match(/\/\S+/g) ?? [];
  for (const file of libraries) {
    mkdirSync(dir.join('node', dirname(file)), { recursive: true });
    copyFileSync(file, dir.join('node', file)); // what links lead to
  }
  mkdirSync(dir.join('node/bin'), { recursive: true });
  copyFileSync(process.execPath, dir.join('node/bin/node'));
  return execFileSync('tar', ['-C', dir.join('node'), '-c', '.'], { maxBuffer: 512 << 20 });
}

async function example(
  name: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>> = {},
): Promise<RunResult> {
  const file = join(ROOT, 'examples/sdk', name);
  return await run(process.execPath, [file, ...args], {
    env: { BUILDKIT_HOST: daemon.address, ...env },
    cwd: dir.path,
  });
}

async function works(...args: Parameters<typeof example>): Promise<RunResult> {
  const result = await example(...args);
  assert.equal(result.code, 0, result.stderr);
  return result;
}

test('a Dockerfile with a secret and progress', { skip }, async () => {
  dir.write({
    'app/Dockerfile':
      'FROM busybox\nRUN --mount=type=secret,id=token,required=true wc -c < /run/secrets/token > /length\n',
  });
  const name = `${registry.host}/app:1`;
  const result = await works('dockerfile.ts', [dir.join('app'), name], { TOKEN: 'secret' });
  assert.match(result.stderr, /RUN --mount=type=secret.*\n#\d+ DONE/);
  const { layers } = (await registry.manifest('app', '1')) as { layers: unknown[] };
  assert.equal(layers.length, 2);
  assert.match(result.stdout.toString(), new RegExp(`^${name}@sha256:`));
});

test('a frontend in this process, and in an image', { skip }, async () => {
  dir.write({
    'own/Appfile': 'from busybox\ncopy files /app\nrun cat /app/a > /b\nstart /bin/cat /b\n',
    'own/files/a': 'built by a frontend\n',
  });
  await works('frontend/in-process.ts', [dir.join('own'), dir.join('own.tar')]);
  const blob = (digest: string): Buffer =>
    execFileSync('tar', ['-xOf', dir.join('own.tar'), `blobs/${digest.replace(':', '/')}`], {
      maxBuffer: 64 << 20,
    });
  const index = JSON.parse(execFileSync('tar', ['-xOf', dir.join('own.tar'), 'index.json']).toString());
  const manifest = JSON.parse(blob(index.manifests[0].digest).toString());
  const config = JSON.parse(blob(manifest.config.digest).toString());
  assert.deepEqual(config.config.Cmd, ['/bin/cat', '/b']);
  assert.match(config.config.Env.join(), /^PATH=/);

  const name = `${registry.host}/appfile:1`;
  await works('frontend/image.ts', [name, node]);
  dir.write({ 'own/Appfile': `# syntax=${name}\n${readFileSync(dir.join('own/Appfile'))}` });
  const locals = ['--local', `context=${dir.join('own')}`, '--local', `dockerfile=${dir.join('own')}`];
  const flags = ['--opt', 'filename=Appfile', '--output', `type=local,dest=${dir.join('tree')}`];
  await daemon.buildctl(['build', '--frontend', 'dockerfile.v0', ...locals, ...flags]).then((result) => {
    assert.equal(result.code, 0, result.stderr);
    assert.match(result.stderr, /run cat \/app\/a > \/b/);
  });
  assert.equal(readFileSync(dir.join('tree/b'), 'utf8'), 'built by a frontend\n');

  dir.write({ 'own/Appfile': `# syntax=${name}\nfrom busybox\nfly\n` });
  const failed = await daemon.buildctl(['build', '--frontend', 'dockerfile.v0', ...locals, ...flags]);
  assert.match(failed.stderr, /Appfile:3: unknown word fly/);
});

test('this project builds itself', { skip }, async () => {
  await works('self/build.ts', [dir.join('self'), node]);
  for (const name of ['client.mjs', 'frontend.mjs', 'types/client/index.d.ts'])
    assert.equal(
      readFileSync(dir.join('self', name), 'utf8'),
      readFileSync(join(ROOT, 'dist/npm', name), 'utf8'),
    );
  const version = execFileSync(process.execPath, [dir.join('self/buildctl.cjs'), '--version'], {
    encoding: 'utf8',
  });
  assert.match(version, /^buildctl buildkit-ts v\d/);
});

test('no daemon runs', { skip }, async (context) => {
  if (!OUR_DAEMON) return context.skip('another daemon is under test');
  if (await answers(DEFAULT_SOCKET)) return context.skip('a daemon runs at the default address');
  const env = { BUILDKIT_HOST: undefined, BUILDKIT_ROOT: dir.join('root') };
  const result = await works('no-daemon.ts', [dir.join('hello.tar')], env);
  assert.match(result.stderr, /^no buildkitd answers, running a private one/);
  assert.match(execFileSync('tar', ['-tf', dir.join('hello.tar')]).toString(), /^manifest\.json$/m);
  const left = await run(BUILDCTL, ['--addr', `unix://${dir.join('none')}`, 'debug', 'workers']);
  assert.equal(left.code, 1);
});

async function answers(path: string): Promise<boolean> {
  if (!existsSync(path)) return false;
  const socket = connect({ path });
  const answered = await new Promise<boolean>((done) => {
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
  socket.destroy();
  return answered;
}
