import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FuzzKind, makeCase, runCase } from './dockerfile.ts';

const SEED = 20_260;
const CASES = 3_000;
const MAX_CASE_MS = 5_000;
/** Takes minutes where time grows with the square of the length. */
const LONG = 400_000;

test('random files, ignore files and expansions are read or refused, and nothing else', async () => {
  const accepted = new Map<FuzzKind, number>();
  for (let index = 0; index < CASES; index++) {
    const input = makeCase(SEED, index);
    const before = process.cpuUsage();
    const outcome = await runCase(input).catch((error: Error) =>
      assert.fail(
        `case ${index} of seed ${SEED}: ${JSON.stringify(input.text)}\n${error.stack}\n${error.cause}`,
      ),
    );
    const { user, system } = process.cpuUsage(before);
    assert.ok((user + system) / 1000 < MAX_CASE_MS, `case ${index} of seed ${SEED} is slow`);
    if (outcome.accepted) accepted.set(input.kind, (accepted.get(input.kind) ?? 0) + 1);
  }
  // Cases that are all refused would test the refusal only.
  for (const kind of ['file', 'directives', 'expand', 'heredoc', 'ignore', 'units'] as const)
    assert.ok((accepted.get(kind) ?? 0) > 50, `${kind}: ${accepted.get(kind)}`);
});

test('long texts of the same take no longer than their length', async () => {
  const texts: [FuzzKind, string][] = [
    ['directives', `# syntax=a${'\r'.repeat(LONG)}x`],
    ['units', `${'1'.repeat(60_000)}x1`],
    ['file', `FROM scratch\nCOPY a ${'/'.repeat(60_000)}b\nWORKDIR ${'/'.repeat(60_000)}c`],
    ['file', `FROM a\nARG ${'a '.repeat(30_000)}`],
    ['file', `FROM a\n${Array.from({ length: 4_000 }, (_, i) => `ENV K${i}=v`).join('\n')}`],
  ];
  const { env, options, paths } = makeCase(SEED, 0);
  for (const [kind, text] of texts) {
    const before = process.cpuUsage();
    const outcome = await runCase({ kind, text, env, options, paths, buildArgs: new Map() });
    const { user, system } = process.cpuUsage(before);
    assert.equal(outcome.accepted, kind !== 'units', outcome.message);
    assert.ok((user + system) / 1000 < MAX_CASE_MS, text.slice(0, 20));
  }
});

test('a case depends on its seed and number alone', () => {
  assert.deepEqual(makeCase(1, 2), makeCase(1, 2));
  assert.notDeepEqual(makeCase(1, 2).text, makeCase(1, 3).text);
});
