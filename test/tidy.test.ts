// Keeps the house tidy: layers, sizes, banned calls. Rules and reasons are in STYLE.md and ARCHITECTURE.md.
// Works on the text of formatted files, so that it needs no compiler API.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const SRC = join(ROOT, 'src');
const MAX_FILE_LINES = 400;
const MAX_FUNCTION_LINES = 70;

const LAYERS: readonly (readonly string[])[] = [
  ['base'],
  ['sys', 'pool', 'pb', 'rpc', 'oci', 'match', 'giturl'],
  ['archive', 'llb', 'solver', 'store', 'ocilayout', 'session', 'executor'],
  ['dockerfile', 'registry', 'cache', 'attest', 'gateway'],
  ['remotecache', 'source', 'ops', 'exporter', 'fsck', 'images'],
  ['frontend', 'client', 'explain'],
  ['daemon'],
  ['cli'],
  ['testing'],
];
const LAYER = new Map(LAYERS.flatMap((rooms, layer) => rooms.map((room) => [room, layer] as const)));

/** Imports beside the layer rule, each with its reason. */
const ALLOWED = new Set([
  'rpc>pb', // gRPC's own status, health and reflection messages
  'sys>base',
  'cli>daemon', // lazily, for the build without a daemon
]);
const WIRE_ROOMS = new Set('llb session gateway frontend client daemon rpc pb cli testing'.split(' '));

interface SourceFile {
  readonly path: string;
  readonly room: string;
  readonly text: string;
  readonly lines: readonly string[];
  readonly isTest: boolean;
}

const files: SourceFile[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts') && !name.startsWith('pb/'))
  .map((name) => {
    const text = readFileSync(join(SRC, name), 'utf8');
    const isTest = name.endsWith('.test.ts') || name.startsWith('testing/');
    return { path: name, room: name.split('/')[0] ?? '', text, lines: text.split('\n'), isTest };
  });
const product = files.filter((f) => !f.isTest);

interface Import {
  readonly target: string;
  readonly typeOnly: boolean;
}

function importsOf(file: SourceFile): Import[] {
  const found: Import[] = [];
  const pattern = /(?:^|\n)\s*(import|export)( type)?\b([^;'"]*?)from\s*['"](\.[^'"]+)['"]/g;
  for (const match of file.text.matchAll(pattern)) {
    const target = relative(SRC, resolve(SRC, dirname(file.path), match[4] ?? ''));
    const names = match[3] ?? '';
    const allTypes = /^\s*\{[^}]*\}\s*$/.test(names) && splitNames(names).every((n) => n.startsWith('type '));
    found.push({ target, typeOnly: match[2] !== undefined || allTypes });
  }
  for (const match of file.text.matchAll(/\bimport\(\s*['"](\.[^'"]+)['"]\s*\)/g)) {
    found.push({ target: relative(SRC, resolve(SRC, dirname(file.path), match[1] ?? '')), typeOnly: false });
  }
  return found;
}

function splitNames(names: string): string[] {
  return names
    .replace(/[{}]/g, '')
    .split(',')
    .map((n) => n.trim())
    .filter(Boolean);
}

function report(problems: readonly string[]): void {
  assert.equal(problems.length, 0, `\n${problems.join('\n')}`);
}

test('every room has a layer', () => {
  report(files.filter((f) => !LAYER.has(f.room)).map((f) => `${f.path}: unknown room`));
});

test('imports point downward', () => {
  const problems: string[] = [];
  for (const file of product) {
    for (const { target, typeOnly } of importsOf(file)) {
      const room = target.split('/')[0] ?? '';
      if (room === file.room || typeOnly || ALLOWED.has(`${file.room}>${room}`)) continue;
      const from = LAYER.get(file.room) ?? -1;
      const to = LAYER.get(room) ?? 99;
      if (to >= from) problems.push(`${file.path}: imports ${target} (layer ${to} from layer ${from})`);
    }
  }
  report(problems);
});

test('wire messages stay at the rim', () => {
  const problems = product
    .filter((f) => !WIRE_ROOMS.has(f.room))
    .flatMap((f) =>
      importsOf(f)
        .filter((i) => i.target.startsWith('pb/'))
        .map((i) => `${f.path}: imports ${i.target}`),
    );
  report(problems);
});

test('no cycle of value imports', () => {
  const graph = new Map(
    product.map((f) => [
      f.path,
      importsOf(f)
        .filter((i) => !i.typeOnly)
        .map((i) => i.target),
    ]),
  );
  const state = new Map<string, 'open' | 'done'>();
  const problems: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (state.get(path) === 'done') return;
    if (state.get(path) === 'open') {
      problems.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
      return;
    }
    state.set(path, 'open');
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    state.set(path, 'done');
  };
  for (const path of graph.keys()) visit(path, []);
  report(problems);
});

test('files and functions fit on a screen', () => {
  const problems: string[] = [];
  for (const file of product) {
    if (file.lines.length > MAX_FILE_LINES + 1) problems.push(`${file.path}: ${file.lines.length - 1} lines`);
    problems.push(...longFunctions(file));
  }
  report(problems);
});

/** A function runs from its header to the closing brace at the header's indentation. */
function longFunctions(file: SourceFile): string[] {
  const header =
    /^(\s*)(?:(?:export |public |private |static |override |async |get |set |\*)*(?:function\b.*|[#\w[\].]+\s*(?:<.*>)?\(.*)|(?:export )?(?:const|let) \w+.*=>) ?\{$/;
  const problems: string[] = [];
  file.lines.forEach((line, index) => {
    const match = header.exec(line);
    if (!match || /^\s*(if|for|while|switch|return|class|else|try|catch|describe|test|it)\b/.test(line))
      return;
    const end = file.lines.findIndex(
      (l, i) => i > index && l.startsWith(`${match[1]}}`) && !l.startsWith(`${match[1]}} `),
    );
    const length = end - index + 1;
    if (end > 0 && length > MAX_FUNCTION_LINES)
      problems.push(`${file.path}:${index + 1}: function of ${length} lines`);
  });
  return problems;
}

const BANNED: readonly { readonly pattern: RegExp; readonly why: string; readonly except?: RegExp }[] = [
  { pattern: /\.on\(\s*['"]data['"]/, why: "on('data') has no backpressure: iterate instead" },
  {
    pattern: /\bfrom ['"]koffi['"]|require\(['"]koffi['"]\)/,
    why: 'koffi belongs to sys/',
    except: /^sys\//,
  },
  {
    pattern: /\bprocess\.env\b/,
    why: 'configuration is passed in',
    except: /^(cli|daemon|client|frontend|gateway)\/|^images\/logins\.ts$/, // what a library's user would pass
  },
  { pattern: /\bconsole\.(log|error|warn)\b/, why: 'output belongs to cli/', except: /^cli\// },
  { pattern: /^export default\b/, why: 'no default exports' },
  { pattern: /: any\b|<any>|as any\b/, why: 'no any' },
];

test('banned calls', () => {
  const problems: string[] = [];
  for (const file of product) {
    file.lines.forEach((line, index) => {
      const code = line.replace(/\/\/.*$/, '').replace(/^\s*\*.*$/, '');
      for (const rule of BANNED) {
        if (rule.except?.test(file.path) || !rule.pattern.test(code)) continue;
        if (file.lines[index - 1]?.includes('biome-ignore')) continue;
        problems.push(`${file.path}:${index + 1}: ${rule.why}`);
      }
    });
  }
  report(problems);
});

test('no dead files', () => {
  const entries = new Set(['cli/main.ts', 'daemon/main.ts', 'daemon/worker-entry.ts']);
  const used = new Set(files.flatMap((f) => importsOf(f).map((i) => i.target)));
  report(
    product
      .filter((f) => !entries.has(f.path) && !used.has(f.path) && !/\/index\.ts$/.test(f.path))
      .map((f) => `${f.path}: imported by nothing`),
  );
});
