// Builds that share steps, cancelled at random; `scripts/soak-cancel.ts` does more of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cancelRounds } from './cancel-rounds.ts';
import { Daemon, Registry } from './harness.ts';

test('of builds that share steps, some are cancelled: none hangs, nothing runs twice or on', async () => {
  await using registry = await Registry.start();
  await registry.pushBusybox();
  await using daemon = await Daemon.start({ config: registry.config });
  const sums = await cancelRounds(daemon, { rounds: 2, builds: 8, seed: 1 });
  assert.equal(sums.done + sums.canceled, 16);
  assert.ok(sums.done > 0 && sums.canceled > 0, JSON.stringify(sums));
});
