// The modules that other programs import: what they promise, what they need, and whether strict projects can use them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const NPM = join(ROOT, 'dist/npm');
const TYPES = join(NPM, 'types');
const skip = existsSync(join(NPM, 'dockerfile.mjs')) ? false : 'dist/ is not built';

interface Library {
  /** Rooms of src/ that are in it, chunks that it shares with others included. */
  readonly rooms: readonly string[];
  /** Rooms that are loaded when they are needed. */
  readonly later?: readonly string[];
  /** Modules of Node that are loaded with it. */
  readonly builtIn: readonly string[];
  /** Its first sample in TypeScript is type-checked and run; samples that need a daemon: test/integration/sdk-package.test.ts. */
  readonly manual?: string;
  /** A file that only type-checks when the types refuse what it says they refuse. */
  readonly types?: string;
}

const LIBRARIES: Readonly<Record<string, Library>> = {
  client: {
    rooms: ['base', 'client'],
    later: ['base', 'client', 'gateway', 'llb', 'match', 'oci', 'ocilayout', 'pb', 'rpc', 'session', 'sys'],
    builtIn: [],
  },
  dockerfile: {
    rooms: ['base', 'dockerfile', 'giturl', 'llb', 'match', 'oci', 'pb'],
    builtIn: ['node:buffer', 'node:net', 'node:os', 'node:path'],
    manual: 'docs/dockerfile-library.md',
  },
  frontend: {
    rooms: ['base', 'frontend'],
    later: 'archive attest base dockerfile frontend gateway giturl llb match oci pb rpc session source'.split(
      ' ',
    ),
    builtIn: [],
  },
  llb: {
    rooms: ['base', 'giturl', 'llb', 'oci', 'pb'],
    builtIn: ['node:net', 'node:path'],
    manual: 'docs/sdk-llb.md',
    types: 'test/llb/wrong-graphs.ts',
  },
  oci: {
    rooms: ['base', 'images', 'oci', 'ocilayout', 'registry', 'session'],
    builtIn: [
      'node:async_hooks',
      'node:fs',
      'node:http',
      'node:https',
      'node:net',
      'node:os',
      'node:path',
      'node:stream',
      'node:timers/promises',
      'node:tls',
      'node:zlib',
    ],
    manual: 'docs/oci-library.md',
  },
  progress: {
    rooms: ['base', 'client'],
    builtIn: [],
  },
};

const scratch = mkdtempSync(join(tmpdir(), 'library-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

const IMPORTS = /(?:\bfrom |^import )['"](\.[^'"]+)['"]/gm;
/** Those as well that are made when they are needed. */
const ALL_IMPORTS = /(?:\bfrom |^import |\bimport\()['"](\.[^'"]+)['"]/gm;

/** `first` and all files that it reaches by relative imports, by their path below `dir`. */
function reached(dir: string, first: string, imports = IMPORTS): Map<string, string> {
  const found = new Map<string, string>();
  const names = new Set([first]);
  for (const name of names) {
    const text = readFileSync(join(dir, name), 'utf8');
    found.set(name, text);
    for (const [, path] of text.matchAll(imports))
      names.add(join(dirname(name), path!).replace(/\.js$/, '.d.ts'));
  }
  return found;
}

function declarations(library: string): [name: string, text: string][] {
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  return [...reached(TYPES, relative(TYPES, join(ROOT, exports[`./${library}`].types)))].sort();
}

function roomsOf(text: string): string[] {
  return [...new Set([...text.matchAll(/^\/\/ src\/(\w+)\//gm)].map((match) => match[1]!))].sort();
}

for (const [library, { rooms, later = rooms, builtIn }] of Object.entries(LIBRARIES)) {
  test(`${library}: the public types are those that were promised`, { skip }, () => {
    const golden = join(ROOT, `test/golden/${library}-api.txt`);
    const text = declarations(library)
      .map(([name, declared]) => `// ${name}\n${declared}`)
      .join('\n')
      .replace(/^ *\/\*\*[\s\S]*?\*\/\n/gm, '');
    if (process.env.UPDATE_GOLDEN) writeFileSync(golden, text);
    assert.equal(text, readFileSync(golden, 'utf8'), 'meant? then run again with UPDATE_GOLDEN=1');
  });

  test(`${library}: what is exported is described, and needs no types of Node`, { skip }, () => {
    for (const [name, text] of declarations(library)) {
      const lines = text.split('\n');
      lines.forEach((line, at) => {
        assert.doesNotMatch(line, /\bBuffer\b|\bNodeJS\b|from 'node:/, `${name}:${at + 1}`);
        if (!/^export (?:declare |interface |type \w)/.test(line)) return;
        assert.match(lines[at - 1] ?? '', /\*\/$/, `${name}:${at + 1}: ${line}`);
      });
    }
  });

  test(`${library}: the module holds nothing of the daemon`, { skip }, () => {
    const text = [...reached(NPM, `${library}.mjs`).values()].join('\n');
    assert.deepEqual(roomsOf(text), rooms);
    assert.deepEqual(roomsOf([...reached(NPM, `${library}.mjs`, ALL_IMPORTS).values()].join('\n')), later);
    const needed = [
      ...text.matchAll(/^import .* from "([^".][^"]*)";|\b(?:require|import)\("([^".][^"]*)"\)/gm),
    ];
    const names = new Set(needed.map((match) => match[1] ?? match[2]!));
    assert.deepEqual([...names].sort(), builtIn);
  });
}

for (const [library, { manual = 'docs/sdk.md' }] of Object.entries(LIBRARIES)) {
  test(`${library}: the manual names everything that can be imported`, { skip }, async () => {
    const text = readFileSync(join(ROOT, manual), 'utf8');
    const names = Object.keys(await import(pathToFileURL(join(NPM, `${library}.mjs`)).href));
    assert.ok(names.length > 1);
    assert.deepEqual(
      names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text)),
      [],
    );
  });
}

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
  for (const [library, { manual, types }] of Object.entries(LIBRARIES)) {
    if (types) writeFileSync(join(dir, `${library}-types.ts`), readFileSync(join(ROOT, types)));
    if (!manual) continue;
    const [, sample = ''] = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, manual), 'utf8')) ?? [];
    writeFileSync(join(dir, `${library}.ts`), sample);
  }
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
  writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  try {
    execFileSync(process.execPath, [tsc, '-p', dir], { encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    assert.fail(`${module}: ${(error as { stdout: string }).stdout}`);
  }
}

/** Beginning of what the sample of the manual prints. */
const PRINTED: Readonly<Record<string, readonly (string | RegExp)[]>> = {
  dockerfile: [
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
    /unknown instruction: COPPY \(did you mean COPY\?\) \[/,
  ],
  llb: ['7 steps', /^sha256:[0-9a-f]{64}$/, 'true'],
  oci: ['3 blobs are right', '3 blobs copied', '0 copied again', "[ '/hello' ] true"],
};

test('the examples of the manuals type-check and run in an empty strict project', { skip }, () => {
  const dir = project();
  for (const [module, resolution] of [
    ['node16', 'node16'],
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ] as const)
    typeCheck(dir, module, resolution);
  for (const library of Object.keys(PRINTED)) {
    const lines = execFileSync(process.execPath, [`${library}.ts`], { cwd: dir, encoding: 'utf8' }).split(
      '\n',
    );
    PRINTED[library]!.forEach((expected, at) => {
      if (typeof expected === 'string') assert.equal(lines[at], expected);
      else assert.match(lines[at] ?? '', expected);
    });
  }
});
