// What the documents and package.json name must exist, and commands they show must be understood.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseArgs } from '../src/base/flags.ts';
import { buildctl } from '../src/cli/app.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const DOCS = [
  'README.md',
  'ARCHITECTURE.md',
  'STYLE.md',
  'docs/cli.md',
  'docs/debugging.md',
  'docs/explain.md',
  'docs/steps.md',
  'docs/caches.md',
  'docs/reproducible-builds.md',
  'docs/benchmarks.md',
  'docs/dockerfile-library.md',
  'docs/oci-library.md',
  'docs/sdk.md',
  'docs/sdk-llb.md',
  ...readdirSync(join(ROOT, 'docs/how-to')).map((name) => `docs/how-to/${name}`),
];
/** Made by a build, or placeholders. */
const NOT_IN_CHECKOUT = /^dist\/|[<>*]/;

test('links and paths in the documents exist', () => {
  const missing: string[] = [];
  for (const doc of DOCS) {
    const text = read(doc);
    const links = [...text.matchAll(/\]\(([^):]+)\)/g)].map((m) => join(dirname(doc), m[1]!));
    const paths = [...text.matchAll(/`((?:src|test|scripts|docs|bin|proto|examples)\/[\w./*<>-]+)`/g)];
    const commands = [...text.matchAll(/^(?:\S+\/node )?(scripts\/[\w.-]+)/gm)];
    for (const path of [...links, ...[...paths, ...commands].map((m) => m[1]!)])
      if (!NOT_IN_CHECKOUT.test(path) && !existsSync(join(ROOT, path))) missing.push(`${doc}: ${path}`);
  }
  assert.deepEqual(missing, []);
});

test('source files that the how-to pages and ARCHITECTURE name without src/ exist', () => {
  const missing: string[] = [];
  const rooms = new Set(readdirSync(join(ROOT, 'src')));
  for (const doc of DOCS)
    for (const [, path, room] of read(doc).matchAll(/`(([a-z]+)\/[\w/-]+\.ts)`/g))
      if (rooms.has(room!) && !existsSync(join(ROOT, 'src', path!))) missing.push(`${doc}: ${path}`);
  assert.deepEqual(missing, []);
});

test('limits that ARCHITECTURE lists are in the code', () => {
  const rows = [...read('ARCHITECTURE.md').matchAll(/^\| (`[A-Z_]+`[^|]*) \| (`[^|]*`) \|/gm)];
  assert.ok(rows.length > 10);
  const missing: string[] = [];
  for (const [, names, places] of rows) {
    const texts = [...places!.matchAll(/`([^`]+)`/g)].map((m) => read(join('src', m[1]!)));
    for (const [, name] of names!.matchAll(/`([A-Z_]+)`/g))
      if (!texts.some((text) => new RegExp(`\\bconst ${name}\\b`).test(text))) missing.push(name!);
  }
  assert.deepEqual(missing, []);
});

test('buildctl understands the commands of the README', () => {
  const commands = [...read('README.md').matchAll(/^buildctl (.+)$/gm)].map((m) => m[1]!.split(' '));
  assert.ok(commands.length > 1);
  for (const argv of commands)
    assert.equal(parseArgs(buildctl('unix:///none'), argv, {}).kind, 'run', argv.join(' '));
});

test('rules for losses of integration suites are whole', () => {
  const rules: unknown = JSON.parse(read('docs/suite-losses.json'));
  assert.ok(Array.isArray(rules));
  for (const rule of rules as Record<string, unknown>[]) {
    assert.match(String(rule.row), /^[A-Z]\d+/);
    assert.ok([3, 4, 5, 6].includes(Number(rule.issue)), JSON.stringify(rule));
    assert.ok(typeof rule.error === 'string' || typeof rule.test === 'string', JSON.stringify(rule));
    for (const pattern of [rule.error, rule.test]) if (typeof pattern === 'string') new RegExp(pattern);
  }
});
