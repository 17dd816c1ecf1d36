// Why steps ran: each kind of change is named, by builds that are made twice.
import assert from 'node:assert/strict';
import { chmodSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect } from '../../src/client/client.ts';
import type { BuildExplanation, Cause } from '../../src/client/types.ts';
import { encodeDefinition } from '../../src/llb/encode.ts';
import { run } from '../../src/llb/exec.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { image, local } from '../../src/llb/source.ts';
import { BuildHistoryRequest, ControlDefinition } from '../../src/pb/control.ts';
import { busyboxLayer, Daemon, Registry, TempDir } from './harness.ts';
import { eventually } from './state.ts';

let daemon: Daemon;
let registry: Registry;
const dir = new TempDir();
const root = new TempDir();

const start = (): Promise<Daemon> => Daemon.start({ config: registry.config, root: root.path });

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await start();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
  root[Symbol.dispose]();
});

interface Explained {
  readonly all: BuildExplanation;
  /** Causes of the step whose name holds `text`, as lines. */
  readonly of: (text: string) => string[];
  /** Names of the steps that ran, but for what the client sends. */
  readonly ran: readonly string[];
  readonly code: number | null;
}

async function explain(context: string, args: readonly string[] = []): Promise<Explained> {
  const flags = ['--explain-format', 'json', '--ref-file', dir.join('ref'), ...args];
  const { code, stdout, stderr } = await daemon.tryBuild(dir.join(context), flags);
  assert.notEqual(stdout.length, 0, stderr);
  return explained(JSON.parse(stdout.toString()) as BuildExplanation, code);
}

function explained(all: BuildExplanation, code: number | null = 0): Explained {
  const shown = all.steps.filter(({ causes }) => causes[0]?.kind !== 'uncacheable');
  return {
    all,
    code,
    ran: shown.filter(({ cached }) => !cached).map(({ name }) => name),
    of: (text) => {
      const found = shown.filter(({ name }) => name.includes(text));
      assert.equal(found.length, 1, `${text}: ${JSON.stringify(all, undefined, 1)}`);
      return found[0]!.causes.map(line);
    },
  };
}

function line({ kind, subject, change, place, old, new: now }: Cause): string {
  const change_ = old || now ? `${old} -> ${now}` : '';
  return [kind, subject, change, place && `(${place})`, change_].filter(Boolean).join(' ');
}

/** The explanation among the documents of a build's record. */
async function recorded(ref: string): Promise<unknown> {
  using client = connect(daemon.address);
  const control = await client.service(ControlDefinition);
  let digest: string | undefined;
  await eventually(async () => {
    for await (const { record } of control.listenBuildHistory(
      BuildHistoryRequest.fromPartial({ Ref: ref, EarlyExit: true }),
    ))
      digest = record?.Result?.Attestations.find(({ mediaType }) =>
        mediaType.includes('explanation'),
      )?.digest;
    assert.ok(digest);
  });
  const { stdout } = await daemon.buildctl(['debug', 'get', digest!]);
  return JSON.parse(stdout.toString());
}

/** Writes a context and builds it once. */
async function built(name: string, files: Readonly<Record<string, string>>): Promise<Explained> {
  write(name, files);
  const first = await explain(name);
  assert.equal(first.code, 0);
  return first;
}

function write(name: string, files: Readonly<Record<string, string>>): void {
  dir.write(Object.fromEntries(Object.entries(files).map(([path, text]) => [`${name}/${path}`, text])));
}

const CONTEXT = '(the build context)';

test('nothing to say of a build that is in the cache; of a first one that nothing is known', async () => {
  const first = await built('first', { Dockerfile: 'FROM busybox\nRUN echo first\n' });
  assert.deepEqual(first.of('RUN echo first'), ['no-record']);
  assert.equal(first.all.comparedWith, 0);
  const again = await explain('first');
  assert.deepEqual(again.ran, []);
  const { stderr } = await daemon.build(dir.join('first'), ['--explain']);
  assert.match(stderr, /^All steps were in the cache\.$/m);
});

test('files: content, mode, new, gone, renamed, in folders and patterns', async () => {
  const files = { Dockerfile: 'FROM busybox\nCOPY . /c\nCOPY src/*.ts /p/\nRUN echo files\n' };
  await built('files', { ...files, 'src/a.ts': 'a', 'src/b.ts': 'b', 'keep.txt': 'k', 'x/y/z': 'z' });
  write('files', { 'src/a.ts': 'changed' });
  const content = await explain('files');
  const isA = [`file src/a.ts content ${CONTEXT}`];
  assert.deepEqual(content.of('COPY . /c'), isA);
  assert.deepEqual(content.of('COPY src'), [...isA, 'parent [2/4] COPY . /c']);
  assert.deepEqual(content.of('RUN'), ['parent [3/4] COPY src/*.ts /p/']);

  chmodSync(dir.join('files/src/b.ts'), 0o600);
  const mode = await explain('files');
  assert.deepEqual(mode.of('COPY . /c'), [`file src/b.ts mode ${CONTEXT} 0644 -> 0600`]);

  renameSync(dir.join('files/x/y/z'), dir.join('files/x/y/w'));
  assert.deepEqual((await explain('files')).of('COPY . /c'), [
    `file x/y/w renamed ${CONTEXT} x/y/z -> x/y/w`,
  ]);
  write('files', { 'new/file': 'n', 'src/a.ts': 'again' });
  rmSync(dir.join('files/keep.txt'));
  assert.deepEqual((await explain('files')).of('COPY . /c'), [
    `file src/a.ts content ${CONTEXT}`,
    `file new/file added ${CONTEXT}`,
    `file keep.txt removed ${CONTEXT}`,
  ]);
  // What a bind mount shows is content as well.
  const mounted = 'FROM busybox\nRUN --mount=target=/m,source=src cat /m/a.ts\n';
  await built('bind', { Dockerfile: mounted, 'src/a.ts': 'a', other: 'o' });
  write('bind', { 'src/a.ts': 'b', other: 'p' });
  assert.deepEqual((await explain('bind')).of('RUN'), [`file src/a.ts content ${CONTEXT}`]);
});

test('an owner in another stage, and the way back to what changed it', async () => {
  const stages =
    'FROM busybox AS first\nARG OWNER=0\nRUN echo same >/file && chown $OWNER /file\n' +
    'FROM busybox\nCOPY --from=first /file /\nRUN echo owner\n';
  await built('owner', { Dockerfile: stages });
  const owner = await explain('owner', ['--opt', 'build-arg:OWNER=5']);
  assert.deepEqual(owner.of('chown'), ['build-arg OWNER 0 -> 5']);
  const copied = 'file /file owner ([first 2/2] RUN echo same >/file && chown 5 /file) 0:0 -> 5:0';
  assert.deepEqual(owner.of('COPY'), [copied]);
  const { stderr } = await daemon.build(dir.join('owner'), ['--explain', '--opt', 'build-arg:OWNER=6']);
  assert.match(
    stderr,
    /\n {2}\[stage-1 3\/3\] RUN echo owner\n {4}- \[stage-1 2\/3\] ran because the owner of file \/file in \[first 2\/2\] changed: [05]:0 -> 6:0 because \[first 2\/2\] ran because build argument OWNER changed: [05] -> 6\n/,
  );
});

test('variables, the text of an instruction, its options and mounts', async () => {
  const base = 'FROM busybox\nARG ARG=1\nENV ENV=one API_TOKEN=abc\n';
  await built('vars', { Dockerfile: `${base}RUN echo vars\n` });
  assert.deepEqual((await explain('vars', ['--opt', 'build-arg:ARG=2'])).of('RUN'), ['build-arg ARG 1 -> 2']);
  write('vars', { Dockerfile: `${base.replace('one', 'two')}RUN echo vars\n` });
  assert.deepEqual((await explain('vars')).of('RUN'), ['env ENV one -> two']);
  write('vars', { Dockerfile: `${base.replace('one API_TOKEN=abc', 'two API_TOKEN=xyz')}RUN echo vars\n` });
  const secret = (await explain('vars')).of('RUN');
  assert.equal(secret.length, 1);
  assert.match(secret[0]!, /^env API_TOKEN \(hidden, \w{8}\) -> \(hidden, \w{8}\)$/);

  await built('text', { Dockerfile: 'FROM busybox\nRUN echo old\nWORKDIR /w\n' });
  write('text', { Dockerfile: 'FROM busybox\nRUN echo new\nWORKDIR /w\n' });
  const text = await explain('text');
  assert.deepEqual(text.of('RUN'), ['command echo old -> echo new']);
  assert.deepEqual(text.of('WORKDIR'), ['parent [2/3] RUN echo new']);
  write('text', { Dockerfile: 'FROM busybox\nRUN true\nRUN echo new\nUSER 1\nWORKDIR /w\n' });
  const more = await explain('text');
  assert.deepEqual(more.of('RUN true'), ['no-record']);
  assert.deepEqual(more.of('RUN echo new'), ['parent [2/4] RUN true']);

  const step = (flags: string) => ({ Dockerfile: `FROM busybox\nRUN ${flags} echo mounts\n` });
  await built('mounts', step('--mount=type=secret,id=a,target=/s'));
  write('mounts', step('--mount=type=secret,id=b,target=/s'));
  assert.deepEqual((await explain('mounts')).of('RUN'), [
    'mount /s type=secret,id=a,mode=400,optional -> type=secret,id=b,mode=400,optional',
  ]);
  write('mounts', step('--mount=type=secret,id=b,target=/s --mount=type=cache,target=/c'));
  assert.deepEqual((await explain('mounts')).of('RUN'), ['mount /c  -> type=cache,id=//c']);
  write('mounts', step('--network=none --mount=type=secret,id=b,target=/s'));
  assert.deepEqual((await explain('mounts')).of('RUN'), ['option network  -> none']);
});

test('bases and platforms', async () => {
  const first = await registry.pushImage('base', 'latest', [busyboxLayer()]);
  const digestOf = async () => {
    const accept = 'application/vnd.oci.image.manifest.v1+json';
    const answer = await fetch(`http://${registry.host}/v2/base/manifests/latest`, { headers: { accept } });
    return answer.headers.get('docker-content-digest');
  };
  const old = await digestOf();
  await built('base', { Dockerfile: `FROM ${first}\nRUN echo base\n` });
  await registry.pushImage('base', 'latest', [busyboxLayer(), busyboxLayer()]);
  const now = await digestOf();
  const base = await explain('base');
  assert.deepEqual(base.of('FROM'), [`base ${first} ${old} -> ${now}`]);
  assert.equal(base.of('RUN').length, 1);
  assert.match(base.of('RUN')[0]!, /^parent \[1\/2\] FROM /);
  const layers = [busyboxLayer(), busyboxLayer(), busyboxLayer()];
  const second = await registry.pushImage('second', 'latest', layers);
  write('base', { Dockerfile: `FROM ${second}\nRUN echo base\n` });
  assert.deepEqual((await explain('base')).of('FROM'), [`base ${second} ${first} -> ${second}`]);

  const other = process.arch === 'arm64' ? 'amd64' : 'arm64';
  const own = process.arch === 'arm64' ? 'arm64' : 'amd64';
  const platform = await explain('base', ['--opt', `platform=linux/${other}`]);
  assert.ok(
    platform.all.steps.some(({ causes }) =>
      causes.some((c) => line(c) === `platform linux/${own} -> linux/${other}`),
    ),
    JSON.stringify(platform.all),
  );
});

test('pruned, unfinished, asked to ignore the cache, known after a restart', async () => {
  const context = { Dockerfile: 'FROM busybox\nCOPY f /\nRUN echo pruned\nRUN echo last\n', f: 'f' };
  await built('gone', context);
  await daemon[Symbol.asyncDispose]();
  daemon = await start();
  write('gone', { f: 'changed' });
  assert.deepEqual((await explain('gone')).of('COPY'), [`file f content ${CONTEXT}`]);

  await daemon.buildctl(['prune', '--all']);
  const pruned = await explain('gone');
  assert.deepEqual(pruned.of('COPY'), ['pruned']);
  assert.deepEqual(pruned.of('RUN echo last'), ['parent [3/4] RUN echo pruned']);

  const ignored = await explain('gone', ['--no-cache']);
  for (const name of ignored.ran) assert.deepEqual(ignored.of(name), ['ignore-cache']);
  assert.equal(ignored.ran.length, 3);
  assert.deepEqual((await explain('gone')).ran, []);

  write('fails', { Dockerfile: 'FROM busybox\nRUN --mount=target=/c sh /c/script\n', script: 'exit 1' });
  const failed = await explain('fails');
  assert.notEqual(failed.code, 0);
  assert.deepEqual(failed.of('RUN'), ['no-record']);
  assert.deepEqual((await explain('fails')).of('RUN'), ['unfinished']);
  write('fails', { script: 'exit 0' });
  assert.deepEqual((await explain('fails')).of('RUN'), [`file script content ${CONTEXT}`]);
});

test('builds that share a step each hear why it ran', async () => {
  const slow = (n: number) => ({ Dockerfile: 'FROM busybox\nCOPY f /\nRUN sleep 0.3; cat /f\n', f: `v${n}` });
  await Promise.all([built('share1', slow(1)), built('share2', slow(1))]);
  write('share1', slow(2));
  write('share2', slow(2));
  const flags = ['build', '--frontend', 'dockerfile.v0', '--explain-format', 'json'];
  const both = ['share1', 'share2'].map(async (name) => {
    const locals = ['--local', `context=${dir.join(name)}`, '--local', `dockerfile=${dir.join(name)}`];
    const { stdout } = await daemon.buildctl([...flags, ...locals]);
    return explained(JSON.parse(stdout.toString()) as BuildExplanation);
  });
  // Whichever ran it, or came later and found it: what is told is right.
  const causes = (await Promise.all(both)).map(({ all }) =>
    all.steps.flatMap((step) => step.causes.map(line)),
  );
  assert.ok(causes.flat().includes(`file f content ${CONTEXT}`));
  const wrong = causes.flat().filter((text) => !/^(file f content|parent \[2\/3\]|uncacheable)/.test(text));
  assert.deepEqual(wrong, []);
});

test('a step on a tree that is never kept runs because of that', async () => {
  const step = run(local('context'), { args: ['/bin/true'] }).root;
  const ran = run(image('docker.io/library/busybox:latest'), {
    args: ['/bin/true'],
    mounts: [{ dest: '/c', from: step }],
  }).root;
  dir.write({ 'bare/bin/true': readFileSync('/usr/bin/busybox') });
  chmodSync(dir.join('bare/bin/true'), 0o755);
  const input = encodeDefinition(marshal(ran));
  const build = async () => {
    const flags = ['--explain-format', 'json', '--local', `context=${dir.join('bare')}`];
    const { stdout, stderr } = await daemon.buildctl(['build', ...flags], { input });
    assert.notEqual(stdout.length, 0, stderr);
    return JSON.parse(stdout.toString()) as BuildExplanation;
  };
  await build();
  const { steps } = await build();
  const chain = steps.map(({ causes }) => causes.map(line));
  assert.deepEqual(chain[0], ['uncacheable']);
});

test('said later by ref, to programs as an event; not where it is switched off; never a secret', async () => {
  const file = 'FROM busybox\nRUN --mount=type=secret,id=s,env=S --mount=type=ssh echo later $S >/dev/null\n';
  const secret = ['--secret', `id=s,src=${dir.join('secret')}`];
  dir.write({ secret: 'a-secret-value' });
  write('later', { Dockerfile: file });
  await explain('later', secret);
  write('later', { Dockerfile: file.replace('later', 'again') });
  const now = await explain('later', secret);
  const ref = readFileSync(dir.join('ref'), 'utf8');
  await daemon[Symbol.asyncDispose]();
  daemon = await start();
  const said = await daemon.buildctl(['debug', 'explain', '--format', 'json', ref]);
  assert.deepEqual(JSON.parse(said.stdout.toString()), now.all);
  assert.deepEqual(await recorded(ref), now.all);
  const text = await daemon.buildctl(['debug', 'explain', ref]);
  assert.match(text.stdout.toString(), /the command changed: echo later .* -> echo again /);
  // It goes with the record of the build.
  assert.equal((await daemon.buildctl(['debug', 'ctl', '--delete', ref])).code, 0);
  assert.match((await daemon.buildctl(['debug', 'explain', ref])).stderr, /no such build/);
  assert.match((await daemon.buildctl(['debug', 'explain', 'nobody'])).stderr, /no such build nobody/);

  using client = connect(daemon.address);
  const events: BuildExplanation[] = [];
  write('later', { Dockerfile: 'FROM busybox\nRUN echo third\n' });
  const localDirs = { context: dir.join('later'), dockerfile: dir.join('later') };
  const { ref: own } = await client.solve({
    frontend: 'dockerfile.v0',
    localDirs,
    onExplain: (explanation) => events.push(explanation),
  });
  assert.equal(events.length, 1);
  assert.match(
    line(explained(events[0]!).all.steps.at(-1)!.causes[0]!),
    /^command echo again .* -> echo third/,
  );
  assert.deepEqual(await client.explain(own), events[0]);

  await daemon[Symbol.asyncDispose]();
  for (const name of readdirSync(root.path, { recursive: true, encoding: 'utf8' }))
    if (/store\.db|\/explain\//.test(name) && statSync(join(root.path, name)).isFile())
      assert.ok(!readFileSync(join(root.path, name)).includes('a-secret-value'), name);
  daemon = await Daemon.start({ config: `${registry.config}[explain]\nenabled = false\n`, root: root.path });
  const off = await daemon.tryBuild(dir.join('later'), ['--explain']);
  assert.equal(off.code, 0);
  assert.match(off.stderr, /explanations are switched off/);
});

test('told while the build runs, of each step once; as it is told at the end', async () => {
  await using own = await Daemon.start({ config: registry.config });
  using client = connect(own.address);
  const build = async (more: Partial<Parameters<typeof client.solve>[0]> = {}) => {
    const localDirs = { context: dir.join('live'), dockerfile: dir.join('live') };
    return await client.solve({ frontend: 'dockerfile.v0', localDirs, ...more });
  };
  const file = (first: string, last: string): string =>
    `FROM busybox\nCOPY src /src\nRUN ${first}\nRUN sleep 2; ${last}\n`;
  write('live', { Dockerfile: file('echo 1', 'true'), 'src/a': 'a' });
  await build();
  write('live', { Dockerfile: file('echo 2', 'true'), 'src/a': 'b' });
  const told: { readonly name: string; readonly at: number; readonly causes: readonly string[] }[] = [];
  let all: BuildExplanation | undefined;
  const onStepExplained = ({ name, causes }: BuildExplanation['steps'][number]) =>
    void told.push({ name, at: Date.now(), causes: causes.map(line) });
  await build({ onStepExplained, onExplain: (explanation) => (all = explanation) });
  const end = Date.now();
  const early = told.filter(({ at, name }) => at < end - 1000 && name.startsWith('['));
  const names = early.map(({ name }) => name).filter((name) => !name.startsWith('[internal]'));
  assert.deepEqual(names, ['[2/4] COPY src /src', '[3/4] RUN echo 2', '[4/4] RUN sleep 2; true']);
  assert.ok(all);
  assert.deepEqual(
    told.map(({ name, causes }) => ({ name, causes })).sort(byName),
    all.steps.map(({ name, causes }) => ({ name, causes: causes.map(line) })).sort(byName),
  );

  write('live', { Dockerfile: file('echo 3', 'exit 1') });
  told.length = 0;
  await assert.rejects(build({ onStepExplained }), /exit code: 1/);
  assert.ok(told.some(({ name }) => name === '[3/4] RUN echo 3'));
  assert.equal(new Set(told.map(({ name }) => name)).size, told.length);
});

const byName = (a: { readonly name: string }, b: { readonly name: string }): number =>
  a.name < b.name ? -1 : 1;
