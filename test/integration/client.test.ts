// buildctl and a daemon, over the real wire.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { copy, file } from '../../src/llb/file.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { local } from '../../src/llb/source.ts';
import { scratch } from '../../src/llb/state.ts';
import { Definition } from '../../src/pb/ops.ts';
import { Daemon, Registry, TempDir } from './harness.ts';

let registry: Registry;
let daemon: Daemon;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({ config: registry.config });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

test('a Dockerfile becomes a folder', async () => {
  const context = dir.write({
    'local/Dockerfile':
      'FROM busybox AS b\nRUN echo hello > /x\nFROM scratch\nCOPY --from=b /x /x\nCOPY a /dir/a\n',
    'local/a': 'content',
  });
  const result = await daemon.build(`${context}/local`, ['--output', `type=local,dest=${dir.join('out')}`]);
  assert.equal(readFileSync(dir.join('out/x'), 'utf8'), 'hello\n');
  assert.equal(readFileSync(dir.join('out/dir/a'), 'utf8'), 'content');
  assert.match(result.stderr, /^#1 \[internal\] load build definition from Dockerfile\n/);
  assert.match(result.stderr, /#\d+ DONE \d+\.\ds\n/);
  const again = await daemon.build(`${context}/local`);
  assert.match(again.stderr, /RUN echo hello > \/x\n#\d+ CACHED\n/);
});

test('archives go to files and to the standard output', async () => {
  const context = dir.write({ 'tar/Dockerfile': 'FROM scratch\nCOPY Dockerfile /f\n' });
  const { stdout } = await daemon.build(`${context}/tar`, ['--output', 'type=tar']);
  assert.match(execFileSync('tar', ['-t'], { input: stdout }).toString(), /^f$/m);
  const metadata = dir.join('md.json');
  const flags = ['--output', `type=oci,name=example.com/x:1,dest=${dir.join('oci.tar')}`];
  await daemon.build(`${context}/tar`, [...flags, '--metadata-file', metadata]);
  const index = JSON.parse(execFileSync('tar', ['-xOf', dir.join('oci.tar'), 'index.json']).toString());
  const written = JSON.parse(readFileSync(metadata, 'utf8'));
  assert.equal(written['containerimage.digest'], index.manifests[0].digest);
  assert.equal(written['containerimage.descriptor'].digest, index.manifests[0].digest);
  assert.equal(written['image.name'], 'example.com/x:1');
});

test('an image is pushed', async () => {
  const context = dir.write({ 'push/Dockerfile': 'FROM busybox\nRUN echo pushed > /p\n' });
  const name = `${registry.host}/pushed:v1`;
  await daemon.build(`${context}/push`, ['--output', `type=image,name=${name},push=true`]);
  const manifest = await registry.manifest('pushed', 'v1');
  assert.equal((manifest.layers as unknown[] | undefined)?.length, 2);
});

test('secrets reach a step and nothing else', async () => {
  const context = dir.write({
    'secret/Dockerfile':
      'FROM busybox AS b\nRUN --mount=type=secret,id=f cat /run/secrets/f > /f\nRUN --mount=type=secret,id=e cat /run/secrets/e > /e\nFROM scratch\nCOPY --from=b /f /e /\n',
    'the-secret': 'from file',
  });
  const secrets = ['--secret', `id=f,src=${dir.join('the-secret')}`, '--secret', 'id=e,env=MY_SECRET'];
  const output = ['--output', `type=local,dest=${dir.join('secrets')}`];
  await daemon.build(`${context}/secret`, [...secrets, ...output], { env: { MY_SECRET: 'from env' } });
  assert.equal(readFileSync(dir.join('secrets/f'), 'utf8'), 'from file');
  assert.equal(readFileSync(dir.join('secrets/e'), 'utf8'), 'from env');
});

test('build arguments take their value from the environment', async () => {
  const context = dir.write({
    'arg/Dockerfile':
      'FROM busybox AS b\nARG A=unset\nARG B=unset\nRUN echo $A $B > /x\nFROM scratch\nCOPY --from=b /x /\n',
  });
  const opts = [
    '--opt',
    'build-arg:A',
    '--opt',
    'build-arg:B',
    '--output',
    `type=local,dest=${dir.join('arg')}`,
  ];
  await daemon.build(`${context}/arg`, opts, { env: { A: 'given' } });
  assert.equal(readFileSync(dir.join('arg/x'), 'utf8'), 'given unset\n');
});

test('a failing step is shown with its output and its line', async () => {
  const context = dir.write({ 'bad/Dockerfile': 'FROM busybox\nRUN echo before; exit 3\nRUN true\n' });
  const result = await daemon.tryBuild(`${context}/bad`);
  assert.equal(result.code, 1);
  assert.match(result.stderr, /------\n > \[2\/3\] RUN echo before; exit 3:\n\d+\.\d+ before\n------\n/);
  assert.match(
    result.stderr,
    /Dockerfile:2\n-{20}\n {3}1 \| {5}FROM busybox\n {3}2 \| >>> RUN echo before; exit 3\n/,
  );
  assert.match(
    result.stderr,
    /\nerror: failed to solve: process "\/bin\/sh -c .*" did not complete successfully: exit code: 3\n$/,
  );
});

test('rawjson progress is JSON, quiet is nothing', async () => {
  const context = dir.write({ 'json/Dockerfile': 'FROM scratch\nCOPY Dockerfile /\n' });
  const raw = await daemon.build(`${context}/json`, ['--progress', 'rawjson']);
  const messages = raw.stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.ok(messages.some((m) => m.vertexes?.some((v: { completed?: string }) => v.completed)));
  const quiet = await daemon.build(`${context}/json`, ['--progress', 'quiet']);
  assert.equal(quiet.stderr, '');
});

test('LLB comes from the standard input', async () => {
  const context = dir.write({ 'llb/a': 'from the folder', 'llb/b': 'not asked for' });
  const state = file(scratch(), [
    copy(local('src', { includePatterns: ['a'] }), '/', '/got', {
      dirContentsOnly: true,
      createDestPath: true,
    }),
  ]);
  const input = Definition.encode(marshal(state)).finish();
  const out = dir.join('llb-out');
  const args = [
    'build',
    '--progress',
    'plain',
    '--local',
    `src=${context}/llb`,
    '-o',
    `type=local,dest=${out}`,
  ];
  const result = await daemon.buildctl(args, { input });
  assert.equal(result.code, 0, result.stderr);
  assert.equal(readFileSync(`${out}/got/a`, 'utf8'), 'from the folder');
  assert.ok(!existsSync(`${out}/got/b`));
  const noLocal = await daemon.buildctl(['build'], { input });
  assert.match(noLocal.stderr, /local directory src not enabled|no local sources enabled/);
  const dump = await daemon.buildctl(['debug', 'dump-llb', '--dot'], { input });
  assert.match(dump.stdout.toString(), /label="local:\/\/src" shape="ellipse"/);
});

test('Ctrl-C cancels the build', async () => {
  const context = dir.write({ 'slow/Dockerfile': 'FROM busybox\nRUN echo started && sleep 60\n' });
  const began = Date.now();
  const result = await daemon.tryBuild(`${context}/slow`, ['--no-cache'], {
    during: (child) => setTimeout(() => child.kill('SIGINT'), 3000),
  });
  assert.equal(result.code, 1);
  assert.match(result.stderr, /error: failed to solve: Canceled: context canceled\n$/);
  assert.ok(Date.now() - began < 20_000);
});

test('du lists what a build left, prune removes it', async () => {
  const table = (await daemon.buildctl(['du'])).stdout.toString();
  assert.match(table, /^ID\s+RECLAIMABLE\s+SIZE\s+LAST ACCESSED\n/);
  assert.match(table, /\nTotal:\s+\d/);
  const verbose = (await daemon.buildctl(['du', '-v'])).stdout.toString();
  assert.match(verbose, /^ID:\t+\S+\n/);
  const json = JSON.parse((await daemon.buildctl(['du', '--format', 'json'])).stdout.toString());
  assert.ok(json.length > 0 && json.every((r: { id: string }) => r.id));
  const pruned = (await daemon.buildctl(['prune', '--all'])).stdout.toString();
  assert.match(pruned, /^ID\s+RECLAIMABLE[\s\S]*\nTotal:\t/);
  const left = JSON.parse((await daemon.buildctl(['du', '--format', 'json'])).stdout.toString());
  assert.ok((left ?? []).length < json.length);
});

test('workers and version are told', async () => {
  const workers = (await daemon.buildctl(['debug', 'workers', '-v'])).stdout.toString();
  assert.match(workers, /^ID:\t\t\S+\nPlatforms:\tlinux\//);
  assert.match(workers, /\n\torg\.mobyproject\.buildkit\.worker\.executor:\t+oci\n/);
  const info = (await daemon.buildctl(['debug', 'info'])).stdout.toString();
  assert.match(info, /^BuildKit: +\S+ v\d/);
});

test('a daemon that does not answer is a clear error', async () => {
  const result = await daemon.buildctl(['--addr', 'unix:///nowhere.sock', 'du']);
  assert.equal(result.code, 1);
  assert.match(
    result.stderr,
    /error: failed to call diskusage: Unavailable: connection error: .*nowhere\.sock.*no such file/,
  );
});

test('wrong flags are refused before anything happens', async () => {
  const refused: [string[], RegExp][] = [
    [['build', '--frontend', 'x', '--output', 'dest=x'], /error: --output requires type=<type>\n$/],
    [
      ['build', '--frontend', 'x', '--output', 'type=local'],
      /output directory is required for local exporter/,
    ],
    [
      ['build', '--frontend', 'x', '--output', 'type=image,dest=x'],
      /output x is not supported by image exporter/,
    ],
    [['build', '--frontend', 'x', '--local', 'nokey'], /invalid local: invalid value nokey/],
    [['build', '--frontend', 'x', '--allow', 'everything'], /error: /],
    [['build', '--frontend', 'x', '--progress', 'fancy'], /invalid progress mode fancy/],
    [['build'], /error: empty definition sent to build/],
    [['build', '--nonsense'], /error: flag provided but not defined: -nonsense\n$/],
  ];
  for (const [args, pattern] of refused) {
    const result = await daemon.buildctl(args);
    assert.equal(result.code, 1, args.join(' '));
    assert.match(result.stderr, pattern);
  }
  assert.ok(!existsSync(dir.join('x')));
});
