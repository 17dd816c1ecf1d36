// scripts/suite-losses.mjs: what an integration suite lost, and why.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';

const SCRIPT = resolve(import.meta.dirname, '../scripts/suite-losses.mjs');

type Rows = readonly (readonly [test: string, state: string])[];

function explain(results: Rows, baseline: Rows, logs: Readonly<Record<string, string>>) {
  const dir = mkdtempSync(join(tmpdir(), 'losses-'));
  const table = (rows: Rows): string => rows.map(([name, s]) => `client\tT/${name}\t${s}\t0.1\n`).join('');
  try {
    mkdirSync(join(dir, 'logs'));
    writeFileSync(join(dir, 'results.tsv'), table(results));
    writeFileSync(join(dir, 'baseline.tsv'), table(baseline));
    for (const [name, text] of Object.entries(logs)) writeFileSync(join(dir, 'logs', name), text);
    const files = ['results.tsv', 'baseline.tsv'].map((name) => join(dir, name));
    return spawnSync(process.execPath, [SCRIPT, ...files], { encoding: 'utf8' });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const failure = (name: string, error: string): string =>
  `    x.go:1: \n\tError Trace:\tx.go:1\n\tError:      \t${error}\n\tTest:       \tT/${name}\n`;

test('losses are explained by failure text, then by name', () => {
  const { status, stdout } = explain(
    [
      ['TestA/oci', 'FAIL'],
      ['TestProxyNetworkX/oci', 'SKIP'],
      ['TestGood/oci', 'PASS'],
    ],
    [
      ['TestA/oci', 'PASS'],
      ['TestProxyNetworkX/oci', 'PASS'],
      ['TestGood/oci', 'PASS'],
      ['TestNotRun/oci', 'PASS'],
      ['TestA/oci/sub', 'SKIP'],
    ],
    {
      'client.T.TestA.oci.log': failure('TestA/oci', 'Unimplemented: the proxy network is not supported yet'),
    },
  );
  assert.match(stdout, /^1 of 3 pass, 2 lost\n/);
  assert.match(stdout, /issue 6, A51[^\n]*\n(?: {2}.*\n)* {2}client T\/TestA\/oci\n/);
  assert.match(stdout, /issue 6, A51[^\n]*\n(?: {2}.*\n)* {2}client T\/TestProxyNetworkX\/oci\n/);
  assert.equal(status, 0);
});

test('a loss that no rule knows is named with its failure and fails the script', () => {
  const failing = `${failure('TestA/oci/one', 'the proxy network is not supported yet')}${failure('TestA/oci/two', 'boom\n\t\tmore')}`;
  const { status, stdout } = explain(
    [
      ['TestA/oci/one', 'FAIL'],
      ['TestA/oci/two', 'FAIL'],
    ],
    [
      ['TestA/oci/one', 'PASS'],
      ['TestA/oci/two', 'PASS'],
    ],
    { 'client.T.TestA.oci.log': failing },
  );
  assert.match(stdout, /\nunexplained \(1\)\n {2}client T\/TestA\/oci\/two {2}boom more\n$/);
  assert.equal(status, 1);
});

test('missing rows of a function that ran are losses', () => {
  const { status, stdout } = explain([['TestA/oci', 'PASS']], [['TestA/oci/gone', 'PASS']], {});
  assert.match(stdout, /^0 of 1 pass, 1 lost\n/);
  assert.equal(status, 1);
});

test('a hang is not excused by its name', () => {
  const log = { 'client.T.TestProxyNetworkX.oci.log': 'panic: test timed out after 40s\n' };
  const { status, stdout } = explain(
    [['TestProxyNetworkX/oci', 'FAIL']],
    [['TestProxyNetworkX/oci', 'PASS']],
    log,
  );
  assert.match(stdout, /\nunexplained \(1\)\n {2}client T\/TestProxyNetworkX\/oci {2}panic: test timed out/);
  assert.equal(status, 1);
});
