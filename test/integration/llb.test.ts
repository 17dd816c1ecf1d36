// Graphs of buildkit-ts/llb, built by the daemon under test.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { after, before, test } from 'node:test';
import {
  bind,
  cache,
  chain,
  copy,
  diff,
  fromDefinition,
  image,
  local,
  merge,
  mkdir,
  mkfile,
  passthrough,
  rm,
  scratch,
  shell,
  sourceMap,
  type State,
  symlink,
  tmpfs,
} from '../../src/llb/index.ts';
import { Daemon, Registry, type RunResult, TempDir } from './harness.ts';

let registry: Registry;
let daemon: Daemon;
const dir = new TempDir();
const busybox = image('busybox');

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

async function build(state: State, ...flags: readonly string[]): Promise<RunResult> {
  const input = (await state.marshal()).toBytes();
  return await daemon.buildctl(['build', '--progress', 'plain', ...flags], { input });
}

let count = 0;

/** Files of the result by name, a text each. */
async function files(state: State, ...flags: readonly string[]): Promise<Record<string, string>> {
  const out = dir.join(`out-${count++}`);
  const { code, stderr } = await build(state, '--output', `type=local,dest=${out}`, ...flags);
  assert.equal(code, 0, stderr);
  const names = readdirSync(out, { recursive: true, encoding: 'utf8' }).sort();
  const found = names.filter((name) => statSync(`${out}/${name}`).isFile());
  return Object.fromEntries(found.map((name) => [name, readFileSync(`${out}/${name}`, 'utf8')]));
}

/** What `script` prints, run with `options`. */
async function printed(
  options: Omit<NonNullable<Parameters<State['run']>[1]>, 'mounts' | 'readonlyRoot'>,
  script: string,
  ...flags: readonly string[]
): Promise<string> {
  const ran = busybox.run(shell(`{ ${script}; } > /out/text`), {
    ...options,
    mounts: { '/out': bind(scratch()) },
  });
  return (await files(ran.output('/out'), ...flags)).text!;
}

test('settings of a run reach it', async () => {
  const script = 'echo $A $B; pwd; cat /proc/sys/kernel/hostname; grep six /etc/hosts; ulimit -n; exit 3';
  const text = await printed(
    {
      env: { A: '1', B: '2' },
      dir: '/tmp/new',
      hostname: 'box',
      extraHosts: [{ host: 'six', ip: '2001:0db8::0:1' }],
      ulimits: [{ name: 'nofile', soft: 100, hard: 200 }],
      validExitCodes: [3],
      network: 'none',
    },
    script,
  );
  assert.equal(text, '1 2\n/tmp/new\nbox\n2001:db8::1\tsix\n100\n');
});

test('mounts: trees, parts of them, caches, memory, and what they hold after the run', async () => {
  const source = scratch().file([mkdir('/in/deep', { parents: true }), mkfile('/in/deep/file', 'deep\n')]);
  const mounts = {
    '/ro': bind(source, { readonly: true }),
    '/part': bind(source, { selector: '/in/deep', readonly: true }),
    '/rw': bind(source),
    '/drop': bind(source, { noOutput: true }),
    '/cache': cache('llb-test', { sharing: 'locked' }),
    '/mem': tmpfs({ sizeBytes: 1 << 20 }),
    '/out': bind(scratch()),
  } as const;
  const run = busybox.run(
    shell(
      'cat /ro/in/deep/file /part/file > /out/read; ! touch /ro/x 2>/dev/null && echo no > /out/write; ' +
        'echo new > /rw/new; touch /drop/x /cache/x /mem/x && mount | grep " /mem " | cut -d" " -f1 > /out/mem; echo r > /root/r',
    ),
    { mounts },
  );
  const all = merge([run.output('/out'), run.output('/rw')]).file(copy(run, '/root/r', '/r'));
  assert.deepEqual(await files(all), {
    'in/deep/file': 'deep\n',
    mem: 'tmpfs\n',
    new: 'new\n',
    r: 'r\n',
    read: 'deep\ndeep\n',
    write: 'no\n',
  });
  const readonlyRoot = busybox.run(shell('! touch /x 2>/dev/null && echo no > /out/root'), {
    readonlyRoot: true,
    mounts: { '/out': bind(scratch()) },
  });
  assert.deepEqual(await files(readonlyRoot.output('/out')), { root: 'no\n' });
});

test('secrets are files and variables', async () => {
  const path = dir.write({ secret: 'hush' });
  const text = await printed(
    {
      secrets: [
        { id: 's', target: '/s', mode: 0o440, uid: 5, env: 'S' },
        { id: 's', env: 'T' },
        { id: 'none', env: 'NONE', optional: true },
      ],
    },
    'cat /s; stat -c " %a %u" /s; echo $S $T [$NONE]',
    '--secret',
    `id=s,src=${path}/secret`,
  );
  assert.equal(text, 'hush 440 5\nhush hush []\n');
});

test('files are made, copied from chains and folders of the client, linked and removed', async () => {
  const context = dir.write({ 'context/a.txt': 'a', 'context/b.md': 'b', 'context/sub/c.txt': 'c' });
  const notes = chain(scratch().dir('/n'), [mkdir('.', { parents: true }), mkfile('note', 'note')]);
  const state = scratch()
    .dir('/w')
    .file([
      mkdir('.', { parents: true }),
      copy(local('ctx'), '/', './', { includePatterns: ['**/*.txt'], dirContentsOnly: true }),
      copy(notes, 'note', 'copied', { mode: 'u=rw,go=' }),
      symlink('copied', '/w/link'),
      mkfile('gone', ''),
      rm('go*', { allowWildcard: true }),
    ]);
  const found = await files(state, '--local', `ctx=${context}/context`);
  assert.deepEqual(found, { 'w/a.txt': 'a', 'w/copied': 'note', 'w/link': 'note', 'w/sub/c.txt': 'c' });
});

test('trees are put together, and definitions built inside a build', async () => {
  const base = scratch().file([mkfile('/base', 'base'), mkfile('/old', 'old')]);
  const changed = base.file([rm('/old'), mkfile('/new', 'new')]);
  const other = scratch().file([mkfile('/old', 'other')]);
  const inner = await scratch().file(mkfile('/inner', 'inner')).marshal();
  const nested = scratch().file(mkfile('/graph', inner.toBytes())).build({ filename: '/graph' });
  const outputs = passthrough('both', [
    { state: nested, output: true },
    { state: busybox.run('true') },
    { state: fromDefinition(await other.marshal()), output: true },
  ]);
  const all = merge([...outputs, diff(base, changed)]).requires('last', [busybox.run('echo required')]);
  assert.deepEqual(await files(all), { inner: 'inner', new: 'new' });
});

test('a failing step shows its line in the program that made it', async () => {
  const map = sourceMap({ filename: 'graph.ts', language: 'TypeScript', data: 'one\ntwo\nthree\n' });
  const { code, stderr } = await build(busybox.run('false', { locations: [map.at(2)] }));
  assert.equal(code, 1);
  assert.match(stderr, /graph\.ts:2\n.*\n.*1 \|\s+one\n.*2 \| >>> two\n/);
});

test('equal graphs share the cache, custom names are shown', async () => {
  const graph = (customName: string): State => busybox.run(shell('echo once > /once'), { customName });
  const first = await build(graph('the first'));
  const second = await build(graph('the second'));
  assert.match(first.stderr, /the first/);
  assert.match(second.stderr, /the second\n.*CACHED/);
});
