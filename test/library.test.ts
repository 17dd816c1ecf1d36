// The modules that other programs import: what they promise, what they need, and whether strict projects can use them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const MODULE = join(ROOT, 'dist/npm/dockerfile.mjs');
const TYPES = join(ROOT, 'dist/npm/types');
const GOLDEN = join(ROOT, 'test/golden/dockerfile-api.txt');
const skip = existsSync(MODULE) ? false : 'dist/ is not built';
/** Rooms that know nothing of daemons, files or networks. */
const ROOMS = ['base', 'dockerfile', 'giturl', 'llb', 'match', 'oci', 'pb'];
const BUILT_IN = ['node:buffer', 'node:crypto', 'node:net', 'node:os', 'node:path'];

const scratch = mkdtempSync(join(tmpdir(), 'library-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

function declarations(): string[] {
  return readdirSync(TYPES, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.d.ts'))
    .sort();
}

test('the public types are those that were promised', { skip }, () => {
  const text = declarations()
    .map((name) => `// ${name}\n${readFileSync(join(TYPES, name), 'utf8')}`)
    .join('\n')
    .replace(/^ *\/\*\*[\s\S]*?\*\/\n/gm, '');
  if (process.env.UPDATE_GOLDEN) writeFileSync(GOLDEN, text);
  assert.equal(text, readFileSync(GOLDEN, 'utf8'), 'meant? then run again with UPDATE_GOLDEN=1');
});

test('what is exported is described, and needs no types of Node', { skip }, () => {
  for (const name of declarations()) {
    const lines = readFileSync(join(TYPES, name), 'utf8').split('\n');
    lines.forEach((line, at) => {
      assert.doesNotMatch(line, /\bBuffer\b|\bNodeJS\b|from 'node:/, `${name}:${at + 1}`);
      if (!/^export (?:declare |interface |type \w)/.test(line)) return;
      assert.match(lines[at - 1] ?? '', /\*\/$/, `${name}:${at + 1}: ${line}`);
    });
  }
});

test('the module holds nothing of the daemon', { skip }, () => {
  const text = readFileSync(MODULE, 'utf8');
  const rooms = [...text.matchAll(/^\/\/ src\/(\w+)\//gm)].map((match) => match[1]!);
  assert.deepEqual([...new Set(rooms)].sort(), ROOMS);
  const needed = [...text.matchAll(/^import .* from "([^"]+)";|\b(?:require|import)\("([^"]+)"\)/gm)];
  const others = needed.map((match) => match[1] ?? match[2]!).filter((name) => !BUILT_IN.includes(name));
  assert.deepEqual(others, []);
});

/** An empty project with nothing but the packed package in it. */
function project(): string {
  const packed = execFileSync('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', scratch], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [{ filename }] = JSON.parse(packed) as [{ filename: string }];
  const dir = join(scratch, 'project');
  const installed = join(dir, 'node_modules/buildkit-ts');
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', join(scratch, filename), '-C', installed, '--strip-components=1']);
  writeFileSync(join(dir, 'package.json'), '{ "type": "module", "private": true }\n');
  const [, sample = ''] =
    /```ts\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, 'docs/dockerfile-library.md'), 'utf8')) ?? [];
  writeFileSync(join(dir, 'sample.ts'), sample);
  return dir;
}

function typeCheck(dir: string, module: string, moduleResolution: string): void {
  const compilerOptions = {
    target: 'es2022',
    module,
    moduleResolution,
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    verbatimModuleSyntax: true,
    skipLibCheck: false,
    types: [],
    noEmit: true,
  };
  writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['sample.ts'] }));
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  try {
    execFileSync(process.execPath, [tsc, '-p', dir], { encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    assert.fail(`${module}: ${(error as { stdout: string }).stdout}`);
  }
}

test('the example of the manual type-checks and runs in an empty strict project', { skip }, () => {
  const dir = project();
  for (const [module, resolution] of [
    ['node16', 'node16'],
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ] as const)
    typeCheck(dir, module, resolution);
  const output = execFileSync(process.execPath, ['sample.ts'], { cwd: dir, encoding: 'utf8' });
  assert.deepEqual(output.trimEnd().split('\n').slice(0, 12), [
    '1 FROM',
    '2 ARG',
    '3 RUN --mount=type=cache,target=/root/.cache',
    '4 FROM',
    '5 COPY --from=build',
    '6 ENTRYPOINT',
    "mounts [ 'type=cache,target=/root/.cache' ]",
    'from build to /',
    'line 6: JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals',
    'looked up docker.io/library/alpine:latest linux/amd64',
    "true [ '/bin/sh', '-c', '/app' ]",
    "[ 'VERSION=2.0' ]",
  ]);
  assert.match(output, /unknown instruction: COPPY \(did you mean COPY\?\) \[/);
});
