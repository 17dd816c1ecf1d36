import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FuzzKind, makeCase, runCase } from './dockerfile.ts';

const SEED = 20_260;
const CASES = 3_000;
const MAX_CASE_MS = 5_000;

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

test('a case depends on its seed and number alone', () => {
  assert.deepEqual(makeCase(1, 2), makeCase(1, 2));
  assert.notDeepEqual(makeCase(1, 2).text, makeCase(1, 3).text);
});
