import assert from 'node:assert/strict';
import { test } from 'node:test';
import { relaxResources } from './relax.ts';
import type { LinuxResources } from './types.ts';

const NONE: LinuxResources = {
  memory: 0n,
  memorySwap: 0n,
  cpuShares: 0n,
  cpuPeriod: 0n,
  cpuQuota: 0n,
  cpusetCpus: '',
  cpusetMems: '',
};

/** Both ways round: builds come in any order. */
function relaxed(a: Partial<LinuxResources>, b: Partial<LinuxResources>): Partial<LinuxResources> {
  const [one, other] = [
    { ...NONE, ...a },
    { ...NONE, ...b },
  ];
  const result = relaxResources(one, other);
  assert.deepEqual(relaxResources(other, one), result);
  return Object.fromEntries(
    Object.entries(result ?? {}).filter(([key]) => key in a || key in b),
  ) as Partial<LinuxResources>;
}

test('a build without limits leaves those of the other', () => {
  const limits = { ...NONE, memory: 5n };
  assert.equal(relaxResources(undefined, undefined), undefined);
  assert.equal(relaxResources(limits, undefined), limits);
  assert.equal(relaxResources(undefined, limits), limits);
});

test('each field takes the value that hinders less', () => {
  assert.deepEqual(relaxed({ memory: 5n }, { memory: 9n }), { memory: 9n });
  assert.deepEqual(relaxed({ memory: 5n }, {}), { memory: 0n }, 'not set is no limit');
  assert.deepEqual(relaxed({ memorySwap: 5n }, { memorySwap: 9n }), { memorySwap: 9n });
  assert.deepEqual(relaxed({ memorySwap: 5n }, {}), { memorySwap: 5n }, 'not set follows the memory');
  assert.deepEqual(relaxed({ memorySwap: 5n }, { memorySwap: -1n }), { memorySwap: -1n });
  assert.deepEqual(relaxed({ cpuShares: 5n }, {}), { cpuShares: 5n }, 'not set is the default');
  assert.deepEqual(relaxed({ cpuShares: 5n }, { cpuShares: 6n }), { cpuShares: 6n });
  assert.deepEqual(relaxed({ cpusetCpus: '0-1' }, { cpusetCpus: '3,2' }), { cpusetCpus: '0-3' });
  assert.deepEqual(relaxed({ cpusetCpus: '0-1' }, {}), { cpusetCpus: '' });
  assert.deepEqual(relaxed({ cpusetMems: '1' }, { cpusetMems: 'x' }), { cpusetMems: '1' });
});

test('quota and period stay a pair', () => {
  const pair = (cpuQuota: bigint, cpuPeriod: bigint) => ({ cpuQuota, cpuPeriod });
  assert.deepEqual(relaxed(pair(50n, 100n), pair(40n, 50n)), pair(40n, 50n));
  assert.deepEqual(relaxed(pair(50n, 100n), pair(100n, 200n)), pair(50n, 100n), 'a tie: the shorter period');
  assert.deepEqual(relaxed(pair(50n, 100n), pair(0n, 70n)), pair(0n, 70n), 'no quota is no limit');
  assert.deepEqual(relaxed(pair(0n, 100n), pair(0n, 70n)), pair(0n, 0n));
  assert.deepEqual(relaxed(pair(50n, 0n), pair(40n, 10n)), pair(50n, 0n));
  assert.deepEqual(relaxed(pair(50n, 0n), pair(50n, 10n)), pair(50n, 10n));
});
