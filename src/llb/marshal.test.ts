import assert from 'node:assert/strict';
import test from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { build, diff, merge, requires } from './combine.ts';
import { run } from './exec.ts';
import { chain, copy, file, mkdir, mkfile, parseOwner, rm, symlink } from './file.ts';
import golden from './marshal.golden.json' with { type: 'json' };
import { type MarshalOptions, marshal } from './marshal.ts';
import { type Definition, NetMode, SecurityMode } from './ops.ts';
import { git, http, image, local, ociLayout } from './source.ts';
import {
  addExtraHost,
  addUlimit,
  type State,
  scratch,
  setCgroupParent,
  setDir,
  setEnv,
  setHostname,
  setNetwork,
  setSecurity,
  setUser,
  setValidExitCodes,
} from './state.ts';

const GITHUB = 'https://github.com/moby/buildkit.git';
const SUM = 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef' as Digest;
const context = local('context');
const alpine = image('alpine');
const base = [
  ['PATH', '/bin'],
  ['A', '1'],
  ['B', '2'],
  ['A', '3'],
].reduce((state, [key, value]) => setEnv(state, key ?? '', value ?? ''), alpine);
const settled = setHostname(setUser(setDir(setDir(base, '/w'), 'sub'), 'me'), 'h');

const busy = run(settled, {
  args: ['/bin/sh', '-c', 'echo <hi> & done'],
  mounts: [
    { dest: '/z', from: context, selector: '/sel', readonly: true },
    { dest: '/cache', cache: { id: '/cache', sharing: 'locked' } },
    { dest: '/tmp', tmpfs: { sizeBytes: 1n << 20n } },
    { dest: '/a', from: context },
    { dest: '/no', from: context, noOutput: true },
    { dest: '/cc', from: context, contentCache: 'off' },
  ],
  secrets: [
    { id: 'x', target: '/run/secrets/x', uid: 1, gid: 2, mode: 0o440, optional: true },
    { id: 'e', env: 'ENVS' },
  ],
  ssh: [{ id: 'default' }, { id: 'two', target: '/sock', uid: 3, gid: 4, mode: 0o777, optional: true }],
  proxyEnv: { httpProxy: 'http://p', noProxy: 'n' },
  cdiDevices: [{ name: 'vendor.com/d=1', optional: true }],
  with: (state) =>
    [
      (s: State) => setNetwork(s, NetMode.HOST),
      (s: State) => setSecurity(s, SecurityMode.INSECURE),
      (s: State) => addExtraHost(s, 'ho', '1.2.3.4'),
      (s: State) => addUlimit(s, { name: 'nofile', soft: 10n, hard: 20n }),
      (s: State) => setValidExitCodes(s, [0, 3]),
      (s: State) => setCgroupParent(s, 'cg'),
    ].reduce((s, change) => change(s), state),
  constraints: {
    ignoreCache: true,
    customName: 'run it',
    progressGroup: { id: 'id', name: 'pg', weak: true },
    exportCache: true,
    workerConstraints: ['worker.label==x'],
    linuxResources: {
      memory: 100n,
      memorySwap: 0n,
      cpuShares: 0n,
      cpuPeriod: 0n,
      cpuQuota: 0n,
      cpusetCpus: '',
      cpusetMems: '',
    },
  },
});

const files = file(
  settled,
  [
    mkdir('d', 0o755, { makeParents: true, owner: { user: { id: 1 }, group: { id: 2 } } }),
    mkfile('/f', 0o600, 'data', { owner: parseOwner('joe:grp'), createdTime: 1_700_000_000_000_000_005n }),
    copy(context, 'src/../x', 'dest/', {
      mode: 0o640,
      followSymlinks: true,
      dirContentsOnly: true,
      includePatterns: ['a'],
      excludePatterns: ['b'],
      requiredPaths: ['r'],
      attemptUnpack: true,
      createDestPath: true,
      allowWildcard: true,
      allowEmptyWildcard: true,
      alwaysReplaceExistingDestPaths: true,
      owner: parseOwner('root'),
    }),
    copy(setDir(image('busybox'), '/in'), 'y', '/q/.', { mode: 'u+x' }),
    symlink('old', 'new'),
    rm('gone', { allowNotFound: true, allowWildcard: true }),
  ],
  { customName: 'files' },
);

function sources(): State {
  const map = {
    filename: 'Dockerfile',
    language: 'Dockerfile',
    data: Buffer.from('FROM alpine\nRUN x\n'),
    definition: context,
  };
  const at = (line: number, end: number) => [
    { map, ranges: [{ start: { line, character: 0 }, end: { line, character: end } }] },
  ];
  const a = image('alpine', { locations: at(1, 0) });
  const b = image('alpine', { description: { k: 'v' }, locations: at(2, 3) });
  return run(a, { args: ['x'], mounts: [{ dest: '/b', from: b }] }).root;
}

const mountOutput = run(busy.mount('/a'), {
  args: ['x'],
  readonlyRoot: true,
  mounts: [{ dest: '/o' }],
}).mount('/o');

const cases: Record<string, [State, MarshalOptions?]> = {
  image: [alpine],
  'image-opts': [
    image(`localhost:5000/a/b@${SUM}`, {
      resolveMode: 'pull',
      recordType: 'internal',
      customName: '[internal] x',
    }),
  ],
  'image-arm': [
    run(image('busybox:1', { platform: { os: 'linux', architecture: 'arm', variant: 'v7' } }), {
      args: ['true'],
    }).root,
  ],
  local: [
    local('context', {
      includePatterns: ['a<b', 'c&d'],
      excludePatterns: ['*.go'],
      followPaths: ['p'],
      sharedKeyHint: 'hint',
      differ: { type: 'none', required: true },
      customName: 'load',
    }),
  ],
  'local-session': [local('ctx', { sessionId: 'sid', metadataOnly: { exceptions: ['x'] } })],
  http: [
    http('https://example.com/a.tar', {
      checksum: SUM,
      filename: 'f',
      perm: 0o644,
      uid: 1,
      gid: 2,
      header: { accept: 'x', userAgent: 'y' },
      authHeaderSecret: 'sec',
    }),
  ],
  git: [
    git(GITHUB, {
      ref: 'v1',
      subdir: 'sub/dir',
      keepGitDir: true,
      skipSubmodules: true,
      checksum: 'abc',
    }),
  ],
  'git-plain': [git(GITHUB)],
  ocilayout: [ociLayout(`not/real@${SUM}`, { sessionId: 's', storeId: 'st', layerLimit: 2 })],
  exec: [busy.root],
  'exec-mount': [mountOutput],
  'exec-caps': [run(alpine, { args: ['x'] }).root, { caps: new Set(['exec.meta.setsdefaultpath']) }],
  'exec-nocaps': [run(alpine, { args: ['x'] }).root, { caps: new Set() }],
  file: [files],
  'file-chain': [
    file(alpine, [
      copy(chain(setDir(scratch(), '/ced'), [mkdir('/m', 0o700), mkfile('n', 0o644, '')]), 'a', 'b'),
      copy(context, '/', '/c'),
    ]),
  ],
  'file-scratch': [file(scratch(), [mkfile('/x', 0o644, 'hi')])],
  merge: [merge([alpine, files, scratch(), context], { customName: 'm' })],
  diff: [diff(alpine, files)],
  'diff-scratch': [diff(alpine, scratch())],
  build: [build(image('alpine'), { filename: 'dir/x.llb' })],
  'build-default': [build(image('alpine'))],
  requires: [requires(alpine, 'rid', [context, files])],
  sources: [sources()],
};

/** What the golden file holds of a definition. */
function outline(definition: Definition) {
  const caps = Object.fromEntries(
    Object.entries(definition.metadata).map(([digest, m]) => [digest, Object.keys(m.caps).sort()]),
  );
  return { digests: definition.def.map((bytes) => digestOf(bytes)), caps };
}

for (const [name, [state, options]] of Object.entries(cases)) {
  test(`marshals ${name} to the bytes of the reference client`, () => {
    const definition = marshal(state, {
      platform: { os: 'linux', architecture: 'amd64' },
      localUniqueId: 'unique',
      ...options,
    });
    assert.deepEqual(outline(definition), (golden as Record<string, unknown>)[name]);
  });
}
