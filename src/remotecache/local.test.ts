import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { BuildError, notFound } from '../base/errors.ts';
import type { RemoteContent } from '../session/content.ts';
import type { LoadContext } from '../solver/sources.ts';
import { localOrigin } from './local.ts';

const signal = new AbortController().signal;
const context = { signal, sessions: () => [] } as unknown as LoadContext;
const progress = { download: () => {}, extract: () => {}, combine: () => {} };

test("a client's folder is read with bounds, and asked whether it has a blob", async () => {
  const data = Buffer.from('manifest');
  const digest = digestOf(data);
  let sent = 0;
  const store: Pick<RemoteContent, 'info' | 'read'> = {
    info: async (wanted) => {
      if (wanted === digestOf('gone')) throw notFound(wanted);
      if (wanted === digestOf('broken')) throw new BuildError('connection lost');
      return { digest, size: 8, createdAt: new Date(), updatedAt: new Date(), labels: {} };
    },
    read: async function* (wanted) {
      if (wanted === digest) yield data;
      else for (; ; sent++) yield Buffer.alloc(1024);
    },
  };
  const origin = localOrigin(
    digest,
    async () => store as RemoteContent,
    () => progress,
  );
  const root = await origin.resolve(signal);
  assert.deepEqual(root, { mediaType: '', digest, size: 8 });
  assert.deepEqual(await origin.fetchAll(root, 100, signal), data);
  const endless = { mediaType: '', digest: digestOf('endless'), size: 1 };
  await assert.rejects(origin.fetchAll(endless, 10_000, signal), /is too large/);
  assert.ok(sent < 20);
  const wrong = { ...root, digest: digestOf('other') };
  const other = localOrigin(
    digest,
    async () =>
      ({
        ...store,
        read: async function* () {
          yield data;
        },
      }) as unknown as RemoteContent,
    () => progress,
  );
  await assert.rejects(other.fetchAll(wrong, 100, signal), /unexpected commit digest/);
  const { has } = origin.provider(context);
  const ask = (name: string) => has!({ ...root, digest: digestOf(name) }, { signal });
  assert.deepEqual([await ask('manifest'), await ask('gone')], [true, false]);
  await assert.rejects(ask('broken'), /connection lost/);
});
