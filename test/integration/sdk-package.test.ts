// The packed package in an empty project: the samples of README and docs/sdk.md type-check, as strictly as can be, and run.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { importCost } from '../import-cost.ts';
import { Daemon, OUR_DAEMON, Registry, run, type RunResult, TempDir } from './harness.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const skip = existsSync(join(ROOT, 'dist/npm/client.mjs')) ? false : 'dist/ is not built';
const DEFAULT_SOCKET = '/run/buildkit/buildkitd.sock';
/** What importing the client may cost, as a multiple of an empty program. */
const MAX_IMPORT_COST = 3;
const IMPORT_RUNS = 9;

const dir = new TempDir();
const project = dir.join('project');
const samples = new Map<string, string>();
let registry: Registry;
let daemon: Daemon;

before(async () => {
  registry = await Registry.start();
  daemon = await Daemon.start({ config: registry.config });
  if (!skip) makeProject();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** As `npm install` of the packed package makes it, and with the samples as files. */
function makeProject(): void {
  const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', dir.path];
  const packed = execFileSync('npm', pack, { cwd: ROOT, stdio: ['ignore', 'pipe', 'ignore'] });
  const [{ filename }] = JSON.parse(packed.toString()) as [{ filename: string }];
  const modules = join(project, 'node_modules');
  mkdirSync(join(modules, 'buildkit-ts'), { recursive: true });
  execFileSync('tar', [
    '-xzf',
    dir.join(filename),
    '-C',
    join(modules, 'buildkit-ts'),
    '--strip-components=1',
  ]);
  for (const name of ['koffi', '@koromix', '@types', 'undici-types'])
    symlinkSync(join(ROOT, 'node_modules', name), join(modules, name));
  writeFileSync(join(project, 'package.json'), '{ "type": "module", "private": true }\n');
  for (const manual of ['README.md', 'docs/sdk.md'])
    for (const [, name, text] of readFileSync(join(ROOT, manual), 'utf8').matchAll(
      /<!-- (\S+\.ts) -->\n```ts\n([\s\S]*?)```/g,
    ))
      samples.set(name!, text!.replaceAll('localhost:5000', registry.host));
  for (const [name, text] of samples) writeFileSync(join(project, name), text);
}

function typeCheck(
  module: string,
  moduleResolution: string,
  files: readonly string[],
  types: readonly string[],
): void {
  const compilerOptions = {
    target: 'es2022',
    module,
    moduleResolution,
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    verbatimModuleSyntax: true,
    skipLibCheck: false,
    types,
    noEmit: true,
  };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  try {
    execFileSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    assert.fail(`${module}: ${(error as { stdout: string }).stdout}`);
  }
}

async function sample(
  name: string,
  env: Readonly<Record<string, string | undefined>> = {},
): Promise<RunResult> {
  const options = { cwd: project, env: { BUILDKIT_HOST: daemon.address, ...env } };
  const result = await run(process.execPath, [join(project, name)], options);
  assert.equal(result.code, 0, `${name}: ${result.stderr}`);
  return result;
}

const output = (path: string): string => readFileSync(join(project, path), 'utf8');

for (const [module, resolution] of [
  ['node16', 'node16'],
  ['nodenext', 'nodenext'],
  ['esnext', 'bundler'],
] as const)
  test(`samples type-check in a strict project: ${module}, ${resolution}`, { skip }, () => {
    assert.ok(samples.size >= 6);
    typeCheck(module, resolution, [...samples.keys()], ['node']);
    const withoutNode = [...samples].filter(([, text]) => !text.includes("'node:")).map(([name]) => name);
    const all =
      "export * from 'buildkit-ts/client';\nexport { runFrontend } from 'buildkit-ts/frontend';\nexport * from 'buildkit-ts/progress';\n";
    writeFileSync(join(project, 'all.ts'), all);
    typeCheck(
      module,
      resolution,
      ['all.ts', ...withoutNode.filter((name) => !/process\./.test(samples.get(name)!))],
      [],
    );
  });

test('the samples run', { skip }, async () => {
  const pushed = await sample('build.ts');
  assert.match(pushed.stdout.toString(), /hello:latest@sha256:[0-9a-f]{64}\n$/);
  assert.equal((await registry.manifest('hello', 'latest')).schemaVersion, 2);
  const { stdout } = await sample('everything.ts');
  assert.match(stdout.toString(), /containerimage\.config/);
  assert.ok(existsSync(join(project, 'app.tar')) && existsSync(join(project, 'cache/index.json')));
  assert.match(output('out/start.sh'), /echo started/);
  await sample('graph.ts');
  assert.equal(output('site/index.html'), '<h1>hello</h1>\n');
  assert.equal(output('site/about.html'), 'us\n');
  assert.ok(!existsSync(join(project, 'site/draft.txt')));
  await sample('decide.ts');
  assert.deepEqual(
    ['graph.ts', 'build.ts', 'more.txt'].map((name) => existsSync(join(project, 'decided', name))),
    [true, false, true],
  );
  await sample('frontend.ts');
  assert.equal(output('listed/files.txt'), 'a\nb\n');
  await sample('list.ts');
  assert.deepEqual(readdirSync(join(project, 'from-list/linux_arm64')).sort(), ['a', 'c']);
  assert.match((await sample('daemon.ts')).stdout.toString(), /^true 1\n/);
  writeFileSync(join(project, 'Dockerfile'), 'FROM scratch\nCOPY Dockerfile /\n');
  await sample('readme.ts');
  assert.equal((await registry.manifest('app', 'latest')).schemaVersion, 2);
});

test('the first sample needs no daemon', { skip }, async (context) => {
  if (!OUR_DAEMON) return context.skip('another daemon is under test');
  const busy = await new Promise<boolean>((done) => {
    const socket = connect({ path: DEFAULT_SOCKET }, () => done(true)).on('error', () => done(false));
    socket.unref();
  });
  if (busy) return context.skip('a daemon runs at the default address');
  const result = await sample('build.ts', { BUILDKIT_HOST: undefined, BUILDKIT_ROOT: dir.join('root') });
  assert.match(result.stderr, /running a private one/);
});

test('importing the client costs little', { skip }, () => {
  const cost = importCost(project, join(project, 'node_modules/buildkit-ts/dist/npm'), IMPORT_RUNS);
  const ratio = cost.client! / cost.empty!;
  assert.ok(ratio <= MAX_IMPORT_COST, `${ratio.toFixed(2)} times an empty program`);
});

test('the client loads no native library before it reads a folder', { skip }, async () => {
  const text = `
    import { connect } from 'buildkit-ts/client';
    await using client = await connect();
    await client.solve({ frontend: 'dockerfile.v0', locals: {
      context: { files: {} }, dockerfile: { files: { Dockerfile: 'FROM scratch\\nCOPY . /\\n' } } } });
    console.log(process.report.getReport().sharedObjects.some((name) => name.includes('koffi')));`;
  writeFileSync(join(project, 'native.mjs'), text);
  assert.equal((await sample('native.mjs')).stdout.toString(), 'false\n');
});
