import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { inlineRunner } from '../pool/serve.ts';
import type { JobRunner } from '../pool/types.ts';
import { ContentIndexes, contentIndexKey } from './content-indexes.ts';
import { selectPath } from './content-selector.ts';
import { type ContentHashJobs, contentHashJobs } from './contenthash.ts';
import type { ImmutableRef } from './ref.ts';

const dir = mkdtempSync(join(tmpdir(), 'bkt-indexes-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const signal = new AbortController().signal;
const selectors = [selectPath('/', false)];

/** A ref with the given metadata. */
function refOf(id: string, values: Readonly<Record<string, string>>): ImmutableRef {
  return { id, record: { get: (key: string) => values[key] } } as unknown as ImmutableRef;
}

test('digests of small trees that were transferred are looked up here, others in a thread', async () => {
  const tree = mkdtempSync(join(dir, 'tree-'));
  writeFileSync(join(tree, 'a'), 'x');
  const asked: string[] = [];
  const inline = inlineRunner(contentHashJobs);
  const jobs: JobRunner<ContentHashJobs> = {
    run: (name, input, options) => {
      asked.push(name);
      return inline.run(name, input, options);
    },
  };
  const indexes = new ContentIndexes(join(dir, 'indexes'), jobs);
  const small = refOf('small', { [contentIndexKey]: 'source' });
  const other = refOf('other', {});
  const fresh = refOf('fresh', { [contentIndexKey]: 'unknown' });

  const digest = digestOf('of the transfer');
  await indexes.update('source', [{ path: 'a', kind: 'write', digest }], signal);
  const [known] = await indexes.hash(small, { dir: tree, selectors }, signal);
  assert.deepEqual(asked, []);

  for (const ref of [other, fresh]) {
    assert.notEqual(
      (await indexes.hash(ref, { dir: tree, selectors }, signal))[0],
      known,
      'read from the tree',
    );
    assert.equal(asked.pop(), 'contentHash');
  }
  const large = mkdtempSync(join(dir, 'large-'));
  writeFileSync(join(large, 'b'), Buffer.alloc(300_000));
  await indexes.hash(small, { dir: large, selectors: [selectPath('/b', false)] }, signal);
  assert.deepEqual(asked.splice(0), ['contentHash'], 'its index does not know all of it');

  await indexes.hash(small, { dir: tree, selectors: Array(9).fill(selectors[0]) }, signal);
  assert.deepEqual(asked.splice(0), ['contentHash'], 'each selector goes through the tree');

  const changes = Array.from({ length: 2000 }, (_, i) => ({
    path: `file-${i}`,
    kind: 'write' as const,
    digest,
  }));
  await indexes.update('source', changes, signal);
  assert.deepEqual(asked, ['updateContentIndex']);
  await indexes.hash(small, { dir: tree, selectors }, signal);
  assert.deepEqual(asked, ['updateContentIndex', 'contentHash'], 'it has grown large');
});
