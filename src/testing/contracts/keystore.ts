import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KeyLink, KeyStore } from '../../solver/keystore.ts';

export interface KeyStoreFixture extends AsyncDisposable {
  readonly keys: KeyStore;
}

const link = (digest: string, more: Partial<KeyLink> = {}): KeyLink => ({
  input: 0,
  output: 0,
  digest,
  selector: '',
  ...more,
});

/** What every KeyStore must do (FEATURES E4, E28). */
export function keyStoreContract(name: string, create: () => Promise<KeyStoreFixture>): void {
  test(`${name}: a link is found by all of its fields, oldest first`, async () => {
    await using fixture = await create();
    const { keys } = fixture;
    keys.link('a', link('step'), 'z');
    keys.link('a', link('step'), 'b');
    keys.link('a', link('step'), 'z');
    assert.deepEqual(keys.query('a', link('step')), ['z', 'b']);
    for (const other of [{ input: 1 }, { output: 1 }, { output: -1 }, { selector: '/x' }, { digest: 'else' }])
      assert.deepEqual(keys.query('a', link('step', other)), []);
    assert.deepEqual(keys.query('b', link('step')), []);
    keys.link('a', link('step', { output: -1, selector: '/x' }), 'c');
    assert.deepEqual(keys.query('a', link('step', { output: -1, selector: '/x' })), ['c']);
  });

  test(`${name}: records come newest first and replace their like`, async () => {
    await using fixture = await create();
    const { keys } = fixture;
    keys.addRecord({ key: 'k', resultId: 'old', createdAt: 1 });
    keys.addRecord({ key: 'k', resultId: 'new', createdAt: 5 });
    keys.addRecord({ key: 'k', resultId: 'mid', createdAt: 5 });
    keys.addRecord({ key: 'other', resultId: 'old', createdAt: 2 });
    assert.deepEqual(
      keys.records('k').map((r) => r.resultId),
      ['mid', 'new', 'old'],
    );
    keys.addRecord({ key: 'k', resultId: 'old', createdAt: 9 });
    assert.deepEqual(keys.records('k')[0], { key: 'k', resultId: 'old', createdAt: 9 });
    assert.equal(keys.records('k').length, 3);
    assert.deepEqual([...keys.resultIds()].sort(), ['mid', 'new', 'old']);
    assert.deepEqual(keys.records('none'), []);
  });

  test(`${name}: backlinks tell every way, by input`, async () => {
    await using fixture = await create();
    const { keys } = fixture;
    keys.link('b', link('step', { input: 1 }), 'k');
    keys.link('a', link('step', { selector: '/s' }), 'k');
    assert.deepEqual(keys.backlinks('k'), [
      { from: 'a', link: link('step', { selector: '/s' }) },
      { from: 'b', link: link('step', { input: 1 }) },
    ]);
    assert.deepEqual(keys.backlinks('a'), []);
  });

  test(`${name}: releasing a result takes what nothing else needs`, async () => {
    await using fixture = await create();
    const { keys } = fixture;
    // root -> mid -> leaf, root -> kept; a diamond into leaf.
    keys.link('root', link('m'), 'mid');
    keys.link('mid', link('l'), 'leaf');
    keys.link('side', link('l', { input: 1 }), 'leaf');
    keys.link('root', link('k'), 'kept');
    keys.addRecord({ key: 'leaf', resultId: 'r', createdAt: 1 });
    keys.addRecord({ key: 'kept', resultId: 'other', createdAt: 1 });
    keys.releaseResult('unknown');
    keys.releaseResult('r');
    assert.deepEqual(keys.records('leaf'), []);
    assert.deepEqual(keys.query('mid', link('l')), []);
    assert.deepEqual(keys.query('side', link('l', { input: 1 })), []);
    assert.deepEqual(keys.query('root', link('m')), []);
    assert.deepEqual(keys.query('root', link('k')), ['kept']);
    assert.deepEqual([...keys.resultIds()], ['other']);
  });

  test(`${name}: a key with records or links going out survives a release`, async () => {
    await using fixture = await create();
    const { keys } = fixture;
    keys.link('a', link('x'), 'b');
    keys.link('b', link('y'), 'c');
    keys.addRecord({ key: 'b', resultId: 'r', createdAt: 1 });
    keys.addRecord({ key: 'b', resultId: 's', createdAt: 1 });
    keys.addRecord({ key: 'c', resultId: 't', createdAt: 1 });
    keys.releaseResult('r');
    assert.deepEqual(keys.query('a', link('x')), ['b']);
    keys.releaseResult('s');
    assert.deepEqual(keys.query('a', link('x')), ['b']);
    keys.releaseResult('t');
    assert.deepEqual(keys.query('a', link('x')), []);
  });
}
