// The programs of examples/llb: their graphs are those of BuildKit's own examples, byte for byte (the values are what
// those wrote); one that needs no network is built.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseDefinition, walkVertexes } from '../src/llb/parse.ts';
import { decodeDefinition, encodeDefinition } from '../src/llb/encode.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const EXAMPLES = join(ROOT, 'examples/llb');
/** Not programs. */
const SHARED = ['common.ts', 'programs.ts'];
const skip = existsSync(join(ROOT, 'dist/npm/llb.mjs')) ? false : 'dist/ is not built';

/** Digest of the definition that BuildKit's example writes with these flags, its maps sorted. */
const UPSTREAM: readonly (readonly [string, readonly string[], string])[] = [
  ['buildkit0', [], '144dfba0fd2490c1b856d62166fc04b5698dde94c185ddf288f6e2b7b83d769b'],
  [
    'buildkit0',
    ['--with-containerd=false'],
    '176976c5622b3f026e5eb3fcc6bf6e75428b03ba0daf5e26c207948df66bd534',
  ],
  [
    'buildkit0',
    ['--containerd=v1.6.0', '--runc=v1.1.0'],
    'b653d4f9b3560ffdaf0f14939b339e7651a84e990fac419a63d57e53689e1932',
  ],
  ['buildkit1', [], 'ada19a11cbc3decffe957253c41ec235f1609e5d56a528ba3e69a40ce95dfa33'],
  [
    'buildkit1',
    ['--with-containerd=false'],
    'd8aebbd8f58174369fc59d50940a2dbd9398dc7f3f4a4a9529f9efde738a39b1',
  ],
  ['buildkit2', [], '28a8b7b0e46406a338f59392520210fb161d400855cb3f3c69ba91a58955fa70'],
  [
    'buildkit2',
    ['--with-containerd=false', '--runc=main'],
    'c3108c737a9dbb1e93321725180e609a3e6d0743557e5ef233149cb44b5e0b00',
  ],
  ['buildkit3', [], 'a0140278fbf24915e3f6a4472be01b6cf4612ad22320169b4a07809b2b29d463'],
  [
    'buildkit3',
    ['--with-containerd=false'],
    'df278e07ffe607d7a12871d772017c05e808fc3b07408d28e43fd7dce9ce4efa',
  ],
  [
    'buildkit3',
    ['--buildkit=v0.20.0', '--runc=main'],
    '72db808c53598892b8fa3626f095609511b327a80ff703fd8c2f932e7df94742',
  ],
  ['buildkit4', [], 'ac148acf83b605beef34f0313bff29fde8240551998fb8f32651752b2437e343'],
  ['buildkit4', ['--prefix=/'], 'b2fb65ae3695eb0da5668fd643c823a9350bd1e28b51119f02a7bea000641764'],
  [
    'buildkit4',
    ['--with-containerd=false', '--prefix=/opt/bin/'],
    '6a55e0879cfaa490db256f1c35fe4d87325d06b734d25922b9e3805f6701a7a9',
  ],
  ['nested', [], 'c0dd8ff10b79832702cc8cadde680af902f98122f8c78356999b4d875416065f'],
];

const ran = new Set<string>();
const dir = mkdtempSync(join(tmpdir(), 'llb-examples-'));
after(() => rmSync(dir, { recursive: true, force: true }));

function run(example: string, ...flags: readonly string[]): Buffer {
  ran.add(`${example}.ts`);
  return execFileSync(process.execPath, [join(EXAMPLES, `${example}.ts`), ...flags]);
}

for (const [example, flags, expected] of UPSTREAM) {
  test(`${[example, ...flags].join(' ')} is the graph of BuildKit's example`, { skip }, () => {
    const bytes = encodeDefinition(decodeDefinition(run(example, ...flags)));
    assert.equal(createHash('sha256').update(bytes).digest('hex'), expected);
  });
}

function names(definition: Buffer): string[] {
  const edge = parseDefinition(decodeDefinition(definition));
  return [...walkVertexes(edge)].map(({ name }) => name).sort();
}

for (const [example, folders] of [
  ['buildkit3', ['buildkit-src', 'containerd-src', 'runc-src']],
  ['buildkit4', ['buildkit-src', 'containerd-src', 'runc-src']],
] as const) {
  test(`${example} takes folders of the client`, { skip }, () => {
    const steps = names(run(example, '--buildkit=local', '--runc=local', '--containerd=local'));
    const locals = steps.filter((name) => name.startsWith('local://'));
    assert.deepEqual(
      locals,
      folders.map((folder) => `local://${folder}`),
    );
    assert.ok(!steps.some((name) => name.startsWith('git://')));
  });
}

test('gobuild builds three programs from a folder and two repositories', { skip }, () => {
  const steps = names(run('gobuild'));
  for (const name of [
    'go build github.com/containerd/containerd/cmd/containerd',
    'go build github.com/moby/buildkit/cmd/buildctl',
    'go build github.com/opencontainers/runc',
    'git://github.com/containerd/containerd#v1.7.2',
    'git://github.com/opencontainers/runc#main',
    'local://src',
  ])
    assert.ok(steps.includes(name), `${name}: ${steps.join(', ')}`);
});

const root = process.getuid?.() === 0 ? false : 'needs root';
test('files is built without a network', { skip: skip || root }, () => {
  const definition = run('files');
  const out = join(dir, 'out');
  execFileSync(
    process.execPath,
    [join(ROOT, 'dist/buildctl.cjs'), 'build', '--output', `type=local,dest=${out}`],
    { input: definition, stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, BUILDKIT_HOST: '' } },
  );
  assert.deepEqual(readdirSync(out, { recursive: true, encoding: 'utf8' }).sort(), [
    'documents',
    'documents/todo',
    'site',
    'site/index.html',
    'site/stamp',
    'site/start.html',
  ]);
  assert.equal(readFileSync(join(out, 'documents/todo'), 'utf8'), 'write more\n');
  assert.equal(readlinkSync(join(out, 'site/start.html')), 'index.html');
  assert.equal(lstatSync(join(out, 'site/stamp')).mtimeMs, 0);
});

test('every example was run', { skip }, () => {
  const all = readdirSync(EXAMPLES).filter((name) => !SHARED.includes(name));
  assert.deepEqual(
    all.filter((name) => !ran.has(name)),
    root && !skip ? ['files.ts'] : [],
  );
});
