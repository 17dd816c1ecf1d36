// Frontends in images: what is asked of the daemon over a container's standard input and output.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { type BuildError, Code, connect } from '../../src/client/index.ts';
import { Daemon, OUR_DAEMON, Registry, type RunOptions, type RunResult, TempDir } from './harness.ts';

const dir = new TempDir();
const program = dir.join('program');
let name = '';
/** Of a detail that nobody here knows. */
const FOREIGN_DETAIL = 'type.googleapis.com/google.protobuf.Empty';
const MARK = `mark-${process.pid}`;
let registry: Registry;
let daemon: Daemon;

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({ config: registry.config });
  await makeProgram();
  await pushProgram();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** A folder that is a container with Node and the frontend. */
async function makeProgram(): Promise<void> {
  const node = process.execPath;
  const libraries = execFileSync('ldd', [node], { encoding: 'utf8' }).match(/\/\S+/g) ?? [];
  for (const file of libraries) {
    mkdirSync(join(program, dirname(file)), { recursive: true });
    copyFileSync(file, join(program, file)); // what links lead to
  }
  mkdirSync(join(program, 'bin'));
  copyFileSync(node, join(program, 'bin', basename(node)));
  await build({
    entryPoints: [join(import.meta.dirname, 'frontend-program.ts')],
    outfile: join(program, 'frontend.cjs'),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    logLevel: 'error',
  });
}

async function pushProgram(): Promise<void> {
  name = `${registry.host}/mine:1`;
  dir.write({
    'image/Dockerfile': [
      'FROM scratch',
      'COPY --from=program / /',
      'LABEL moby.buildkit.frontend.network.none=true',
      `ENTRYPOINT ["/bin/${basename(process.execPath)}", "/frontend.cjs"]`,
    ].join('\n'),
  });
  const from = ['--opt', 'context:program=local:program', '--local', `program=${program}`];
  const output = `type=image,name=${name},push=true,compression=uncompressed`;
  await daemon.build(dir.join('image'), [...from, '--output', output]);
}

async function tryWith(
  dockerfile: string,
  args: readonly string[] = [],
  options: RunOptions = {},
): Promise<RunResult & { out: string }> {
  const out = dir.join(`out-${Math.random().toString(36).slice(2)}`);
  const context = dir.join('context');
  mkdirSync(context, { recursive: true });
  writeFileSync(join(context, 'Dockerfile'), dockerfile);
  const more = ['--opt', `build-arg:MARK=${MARK}`, '--output', `type=local,dest=${out}`, ...args];
  return { ...(await daemon.tryBuild(context, more, options)), out };
}

const question = (what: string): string => `# syntax=${name} ${what}\nFROM scratch\n`;

test('# syntax= runs the image: options, caps, workers, its own graph, the result and its metadata', async () => {
  const built = await tryWith(question('tell'), ['--opt', 'build-arg:X=y=z', '--opt', 'target=t']);
  assert.equal(built.code, 0, built.stderr);
  const told = JSON.parse(readFileSync(join(built.out, 'told.json'), 'utf8'));
  assert.equal(told.options.cmdline, `${name} tell`);
  assert.equal(told.options.source, name);
  assert.equal(told.options['build-arg:X'], 'y=z');
  assert.equal(told.options.target, 't');
  assert.match(told.session, /^[0-9a-z]{25}$/);
  for (const workers of [told.environment, told.workers]) {
    assert.equal(workers.length, 1);
    assert.equal(workers[0].labels['org.mobyproject.buildkit.worker.executor'], 'oci');
  }
  assert.deepEqual(told.environment[0].platforms[0], { architecture: 'amd64', os: 'linux' });
  assert.equal(told.workers[0].platforms[0].architecture, 'amd64');
  assert.ok(told.caps.includes('return') && told.llbCaps.includes('source.image'));
  assert.match(told.graph, /docker-image:\/\/.*mine:1@sha256/);
  assert.equal(told.cwd, '/');
});

test('files of the build are read, and steps run, through the bridge; a warning is shown', async () => {
  const built = await tryWith(question('build'));
  assert.equal(built.code, 0, built.stderr);
  assert.equal(readFileSync(join(built.out, 'made'), 'utf8'), 'FROM scratch\n');
  assert.match(built.stderr, /mind the gap/);
});

test('a frontend may let the one inside the daemon build', async () => {
  const built = await tryWith(`# syntax=${name} dockerfile\nFROM busybox\nRUN echo inside > /x\n`);
  assert.equal(built.code, 0, built.stderr);
  assert.equal(readFileSync(join(built.out, 'x'), 'utf8'), 'inside\n');
});

test('what a frontend returns as an error is the error of the build, at the line that asked for it', async () => {
  const built = await tryWith(question('refuse'));
  assert.equal(built.code, 1);
  assert.match(built.stderr, /error: failed to solve: (?:NotFound: )?nothing of that kind/);
  assert.match(built.stderr, /Dockerfile:1/);
});

test('code and details of what a frontend returns as an error are those of the build', async () => {
  await using client = await connect(daemon.address);
  const failure = (options: object): PromiseLike<BuildError> =>
    client.solve(options).then(
      () => assert.fail('the build has not failed'),
      (error: unknown) => error as BuildError,
    );
  const files = { Dockerfile: question('code') };
  const locals = { dockerfile: { files }, context: { files } };
  for (const code of [Code.notFound, Code.permissionDenied, Code.unavailable]) {
    const options = { code: String(code) };
    const errors = [
      await failure({
        frontend: 'gateway.v0',
        frontendOptions: { ...options, source: name, cmdline: `${name} code` },
      }),
      await failure({ frontend: 'dockerfile.v0', frontendOptions: options, locals }),
    ];
    for (const error of errors) {
      assert.equal(error.code, code);
      assert.match(error.message, /^failed to solve: \w+: with a code$/);
      const subrequests = error.details.filter((one) => 'type' in one && one.type === 'errdefs.Subrequest');
      assert.deepEqual(subrequests, [{ type: 'errdefs.Subrequest', value: { name: 'of mine' } }]);
      assert.ok(error.details.some((one) => 'typeUrl' in one && one.typeUrl === FOREIGN_DETAIL));
    }
    assert.equal(errors[1]?.sources[0]?.ranges[0]?.start.line, 1);
  }
});

test('a frontend that dies says why; one that returns nothing is an error', async () => {
  const died = await tryWith(question('die'));
  assert.equal(died.code, 1);
  if (OUR_DAEMON) assert.match(died.stderr, /did not complete successfully: exit code: 3: it hurts/);
  const silent = await tryWith(question('silent'));
  assert.equal(silent.code, 1);
  assert.match(silent.stderr, /no result for incomplete build/);
});

test('a cancelled build ends its frontend', async () => {
  const during = async (child: ChildProcess): Promise<void> => {
    while (frontends() === 0 && child.exitCode === null) await sleep(50);
    child.kill('SIGINT');
  };
  let watched: Promise<void> | undefined;
  const ended = await tryWith(question('hang'), [], { during: (child) => (watched = during(child)) });
  await watched;
  assert.notEqual(ended.code, 0);
  for (let i = 0; i < 200 && frontends() > 0; i++) await sleep(50);
  assert.equal(frontends(), 0);
});

/** Processes of the frontend, of this test file's daemon. */
function frontends(): number {
  const list = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return list.filter((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      return line.includes('/frontend.cjs') && readFileSync(`/proc/${pid}/environ`, 'latin1').includes(MARK);
    } catch {
      return false; // ended meanwhile
    }
  }).length;
}

test('only repositories that are allowed may run', async () => {
  const config = `[frontend."gateway.v0"]\nallowedRepositories = ["docker/dockerfile"]\n`;
  await using strict = await Daemon.start({ config });
  dir.write({ 'strict/Dockerfile': question('tell') });
  const refused = await strict.tryBuild(dir.join('strict'));
  assert.match(refused.stderr, new RegExp(`'${name}' is not an allowed gateway source`));
});

if (OUR_DAEMON)
  test('a daemon may stand in for images, which are not pulled then', async () => {
    const config = `[frontend."dockerfile.v0"]\nstandsInFor = ["${registry.host}/mine"]\n`;
    await using daemon = await Daemon.start({ config });
    dir.write({ 'own/Dockerfile': `${question('x')}COPY Dockerfile /\n` });
    const { stderr } = await daemon.build(dir.join('own'));
    assert.match(stderr, /mine:1 is not pulled: this daemon's own Dockerfile frontend/);
  });
