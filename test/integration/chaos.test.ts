// A small part of scripts/chaos.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runChaos } from './chaos.ts';

const ROUNDS = 8;

test('the daemon is killed at random points of random builds', async () => {
  const summary = await runChaos({ builds: 100, rounds: ROUNDS, seed: 4, log: () => {} });
  assert.deepEqual(summary.failures, []);
  assert.equal(summary.rounds, ROUNDS);
  assert.ok(summary.kills > 0 && summary.checked >= ROUNDS);
});

test('the disk of the daemon fills at random points of random builds', async () => {
  const summary = await runChaos({ builds: 100, rounds: 4, seed: 5, diskMiB: 160, log: () => {} });
  assert.deepEqual(summary.failures, []);
  assert.ok(summary.fills > 0 && summary.checked > 0);
});
