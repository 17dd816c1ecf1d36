import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, hasCode } from '../../base/errors.ts';
import type { LeaseStore } from '../../store/lease.ts';

export interface LeaseFixture extends AsyncDisposable {
  readonly leases: LeaseStore;
}

/** What every LeaseStore must do (FEATURES F11). */
export function leaseContract(name: string, create: () => Promise<LeaseFixture>): void {
  test(`${name}: leases are made, listed and deleted`, async () => {
    await using fixture = await create();
    const { leases } = fixture;
    const before = leases.list().length;
    const made = leases.create({ id: 'one', flat: true, labels: { a: 'b' } });
    assert.deepEqual(leases.get('one'), made);
    assert.equal(made.flat, true);
    assert.equal(made.temporary, false);
    assert.throws(
      () => leases.create({ id: 'one' }),
      (e) => hasCode(e, Code.alreadyExists),
    );
    const random = leases.create();
    const listed = leases.list().map((lease) => lease.id);
    assert.equal(listed.length, before + 2);
    assert.ok(listed.includes('one') && listed.includes(random.id));
    leases.delete('one');
    leases.delete('one');
    assert.equal(leases.get('one'), undefined);
  });

  test(`${name}: resources are a set and need a lease`, async () => {
    await using fixture = await create();
    const { leases } = fixture;
    leases.create({ id: 'l' });
    leases.add('l', { kind: 'snapshot', id: 's' });
    leases.add('l', { kind: 'snapshot', id: 's' });
    leases.add('l', { kind: 'content', id: 'sha256:aa' });
    assert.equal(leases.resources('l').length, 2);
    leases.drop('l', { kind: 'content', id: 'sha256:aa' });
    assert.deepEqual(
      leases.resources('l').map((r) => ({ ...r })),
      [{ kind: 'snapshot', id: 's' }],
    );
    assert.throws(
      () => leases.add('unknown', { kind: 'snapshot', id: 's' }),
      (e) => hasCode(e, Code.notFound),
    );
    leases.delete('l');
    assert.deepEqual(leases.resources('l'), []);
  });

  test(`${name}: a held lease is temporary and ends with its holder`, async () => {
    await using fixture = await create();
    const { leases } = fixture;
    const held = leases.hold();
    const info = leases.get(held.id);
    assert.equal(info?.temporary, true);
    const lifeMs = info!.expiresAt!.getTime() - info!.createdAt.getTime();
    assert.equal(lifeMs, 60 * 60 * 1000);
    held[Symbol.dispose]();
    held[Symbol.dispose]();
    assert.equal(leases.get(held.id), undefined);
  });
}
