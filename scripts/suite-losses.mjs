// Explains what an integration suite lost: node scripts/suite-losses.mjs RESULTS BASELINE [--logs DIR]
// RESULTS and BASELINE have lines of suite, test, PASS|FAIL|SKIP, seconds, separated by tabs. A test that
// passes in BASELINE and not in RESULTS is a loss. docs/suite-losses.json names, by failure text (from the
// logs, by default beside RESULTS) or by test name, the feature that is missing and the issue that brings
// it. Losses that no rule explains, and hangs and crashes of whatever name, are listed last, and make the exit
// code 1.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { logs: { type: 'string' } } });
const [resultsFile, baselineFile] = positionals;
if (resultsFile === undefined || baselineFile === undefined) {
  process.stderr.write('usage: suite-losses.mjs RESULTS BASELINE [--logs DIR]\n');
  process.exit(2);
}
const logDir = values.logs ?? join(dirname(resultsFile), 'logs');
const logNames = existsSync(logDir) ? readdirSync(logDir) : [];
const rules = JSON.parse(readFileSync(new URL('../docs/suite-losses.json', import.meta.url), 'utf8')).map(
  (rule) => ({
    ...rule,
    error: rule.error && new RegExp(rule.error, 's'),
    test: rule.test && new RegExp(`^(?:${rule.test})$`),
  }),
);

/** No missing feature excuses these. */
const BROKEN = /^panic: |connection refused|ECONNRESET|transport is closing/;

const results = readTable(resultsFile);
const baseline = readTable(baselineFile);
const functionsRun = new Set([...results.keys()].map(functionOf));
const expected = [...baseline]
  .filter(([key, state]) => state === 'PASS' && functionsRun.has(functionOf(key)))
  .map(([key]) => key);
const losses = expected.filter((key) => results.get(key) !== 'PASS');

const explained = new Map(rules.map((rule) => [rule, []]));
const unexplained = [];
for (const key of losses) {
  const failures = failuresOf(key);
  const name = key.split('\t')[1].split('/')[1] ?? '';
  const rule =
    rules.find((r) => r.error && failures.some((text) => r.error.test(text))) ??
    (failures.some((text) => BROKEN.test(text)) ? undefined : rules.find((r) => r.test?.test(name)));
  if (rule) explained.get(rule).push(key);
  else unexplained.push([key, failures[0]]);
}

const out = [`${expected.length - losses.length} of ${expected.length} pass, ${losses.length} lost`];
for (const [rule, keys] of [...explained].filter(([, k]) => k.length > 0).sort(byIssue)) {
  out.push('', `issue ${rule.issue}, ${rule.row}: ${rule.feature} (${keys.length})`);
  out.push(...keys.map((key) => `  ${key.replace('\t', ' ')}`));
}
if (unexplained.length > 0) out.push('', `unexplained (${unexplained.length})`);
for (const [key, text] of unexplained)
  out.push(`  ${key.replace('\t', ' ')}  ${(text ?? 'no failure text').replace(/\s+/g, ' ').slice(0, 160)}`);
process.stdout.write(`${out.join('\n')}\n`);
process.exitCode = unexplained.length > 0 ? 1 : 0;

function byIssue([a, x], [b, y]) {
  return a.issue - b.issue || y.length - x.length;
}

function readTable(file) {
  const rows = readFileSync(file, 'utf8').trimEnd().split('\n');
  return new Map(
    rows.map((line) => line.split('\t')).map(([suite, test, state]) => [`${suite}\t${test}`, state]),
  );
}

/** Suite and the two first parts of the test's name: what is run, and logged, as one. */
function functionOf(key) {
  return key.split('/').slice(0, 2).join('/');
}

/** Failure texts of the test itself and those below it; those of the whole log when it has none of its own. */
function failuresOf(key) {
  const [suite, test] = key.split('\t');
  const start = `${[suite, ...test.split('/').slice(0, 2)].join('.')}.`;
  const log = logNames.find((name) => name.startsWith(start));
  if (log === undefined) return [];
  const text = readFileSync(join(logDir, log), 'utf8');
  const blocks = [...text.matchAll(/\bError:\s+(.*?)\n\s+Test:\s+(\S+)/gs)];
  const own = blocks.filter(([, , name]) => name === test || name.startsWith(`${test}/`));
  const panic = /^panic: .*/m.exec(text)?.[0];
  if (blocks.length === 0 && panic !== undefined) return [panic];
  return (own.length > 0 ? own : blocks).map(([, message]) => message);
}
