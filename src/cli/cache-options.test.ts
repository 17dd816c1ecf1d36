import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseExportCache, parseImportCache } from './cache-options.ts';

test('caches are read in the present and the old form', () => {
  const warnings: string[] = [];
  const warn = (text: string): void => void warnings.push(text);
  assert.deepEqual(parseExportCache('type=registry,REF=a/b,mode=max,"x=1,2"', warn), {
    type: 'registry',
    attrs: { ref: 'a/b', mode: 'max', x: '1,2' },
  });
  assert.deepEqual(parseExportCache('type=inline', warn), { type: 'inline', attrs: { mode: 'min' } });
  assert.deepEqual(parseImportCache('type=local,src=/x', warn), { type: 'local', attrs: { src: '/x' } });
  assert.deepEqual(warnings, []);
  assert.deepEqual(parseExportCache('a/b:c', warn), {
    type: 'registry',
    attrs: { ref: 'a/b:c', mode: 'min' },
  });
  assert.deepEqual(parseImportCache('a/b:c', warn), { type: 'registry', attrs: { ref: 'a/b:c' } });
  assert.match(warnings.join(), /--export-cache <ref> is deprecated.*--import-cache <ref> is deprecated/);
  assert.throws(() => parseExportCache('ref=a,subtype=b', warn), /--export-cache requires type=<type>/);
  assert.throws(() => parseImportCache('type=local,src', warn), /invalid value src/);
  assert.throws(() => parseImportCache('type=gha', warn), /type=gha cannot be used yet/);
});
