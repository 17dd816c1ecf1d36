import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../base/log.ts';
import type { Job } from '../solver/job.ts';
import type { VertexSpec } from '../llb/parse.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { type CacheImportParts, CacheImports } from './cache-imports.ts';

test('caches that are begun early are read once, and too many are refused when they are asked for', async () => {
  const read: string[] = [];
  const job = {
    id: 'j',
    sessions: [],
    signal: new AbortController().signal,
    step: (_digest: string, name: string, work: (progress: unknown) => Promise<unknown>) => {
      read.push(name);
      return work({});
    },
  } as unknown as Job<VertexSpec, ImmutableRef>;
  const places = { origin: () => ({ resolve: async () => async () => [] }) };
  const parts = { places, refs: {}, log: silentLogger } as unknown as CacheImportParts;
  const imports = new CacheImports(job, parts);
  const entries = Array.from({ length: 201 }, (_, i) => ({ type: 'registry', attrs: { ref: `r/${i}` } }));

  imports.begin(entries);
  assert.equal(read.length, 200);
  const [first] = imports.of(entries.slice(0, 1));
  assert.deepEqual(await first?.sources, []);
  assert.equal(read.length, 200);
  assert.throws(() => imports.of(entries), /more than 200 caches to import/);
});
