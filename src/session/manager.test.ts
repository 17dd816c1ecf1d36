import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { Code, hasCode } from '../base/errors.ts';
import { Metadata } from '../rpc/metadata.ts';
import { withSession } from './harness.ts';
import { SESSION_ID } from './wire.ts';

test('a second client cannot take the id of one that is connected, nor none at all', async () => {
  await withSession([], async (session, signal, manager) => {
    for (const id of [session.id, '']) {
      const [near] = duplexPair();
      const refused = manager.handle(near, Metadata.of({ [SESSION_ID]: id }), signal);
      const code = id === '' ? Code.invalidArgument : Code.alreadyExists;
      await assert.rejects(refused, (error) => hasCode(error, code));
    }
    assert.equal(manager.find(session.id), session);
    assert.equal(session.signal.aborted, false);
    assert.equal(manager.find(''), undefined);
  });
});
