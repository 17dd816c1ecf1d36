import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Digest } from '../base/digest.ts';
import { causeText, explanationText } from './text.ts';
import { cause, type Cause, type StepExplanation } from './types.ts';

const vertex = (n: number) => `sha256:${String(n).padStart(64, '0')}` as Digest;
const told = (n: number, name: string, causes: readonly Cause[], cached = false): StepExplanation => ({
  vertex: vertex(n),
  name,
  cached,
  causes,
});

test('a chain is followed to its first cause, over steps that were cached', () => {
  const parent = (n: number, subject: string) => cause('parent', { subject, vertex: vertex(n) });
  const file = cause('file', { subject: 'a', change: 'content', place: 'the build context' });
  const text = explanationText({
    comparedWith: Date.UTC(2026, 0, 2, 3, 4, 5),
    steps: [
      told(1, '[1/3] COPY a', [file], true),
      told(2, '[2/3] RUN b', [parent(1, '[1/3] COPY a')]),
      told(3, '[3/3] RUN c', [cause('command', { old: 'x', new: 'c' }), parent(2, '[2/3] RUN b')]),
      told(4, '[internal] load', [cause('uncacheable')]),
    ],
  });
  assert.equal(
    text,
    `Why steps ran, compared with the build of 2026-01-02 03:04:05 UTC:
  [2/3] RUN b
    - [1/3] is another one because file a in the build context changed
  [3/3] RUN c
    - the command changed: x -> c
    - [2/3] ran because [1/3] is another one because file a in the build context changed
`,
  );
});

test('a chain that is a loop ends', () => {
  const loop = cause('parent', { subject: 'a', vertex: vertex(1) });
  assert.ok(explanationText({ comparedWith: 1, steps: [told(1, 'a', [loop])] }).length < 2000);
});

test('nothing ran, or nothing is known', () => {
  assert.equal(explanationText({ steps: [], comparedWith: 0 }), 'All steps were in the cache.\n');
  const first = [told(1, 'a', [cause('no-record')]), told(2, 'b', [cause('no-record')])];
  assert.match(explanationText({ steps: first, comparedWith: 0 }), /^All 2 steps ran: nothing is kept/);
});

test('each kind has its words; long values and digests are cut', () => {
  const file = { subject: 'f', place: '[b 2/3] RUN x', old: '1', new: '2' } as const;
  const words: [Cause, string][] = [
    [cause('file', { ...file, change: 'mode' }), 'the mode of file f in [b 2/3] changed: 1 -> 2'],
    [cause('file', { ...file, change: 'type' }), 'file f in [b 2/3] is a 2 now and was a 1'],
    [cause('file', { ...file, change: 'link' }), 'the symlink f in [b 2/3] changed: 1 -> 2'],
    [cause('file', { ...file, change: 'renamed' }), 'file 1 in [b 2/3] was renamed to 2'],
    [cause('file', { ...file, change: 'added' }), 'file f in [b 2/3] is new'],
    [cause('file', { ...file, change: 'removed' }), 'file f in [b 2/3] is gone'],
    [cause('file', { ...file, change: 'below' }), 'files below f in [b 2/3] changed'],
    [
      cause('file', { ...file, change: 'attributes' }),
      'the extended attributes of file f in [b 2/3] changed',
    ],
    [cause('file', { place: 'here' }), 'files of here changed (which ones is not known)'],
    [cause('more-files', { place: 'here', subject: '3' }), '3 more files of here changed'],
    [cause('env', { subject: 'E', new: '2' }), 'variable E is new: 2'],
    [cause('build-arg', { subject: 'A', old: '2' }), 'build argument A is gone, it was 2'],
    [
      cause('base', { subject: 'i', old: vertex(1), new: vertex(2) }),
      'base image i changed: sha256:000000000000 -> sha256:000000000000',
    ],
    [cause('base', { subject: 'j', old: 'i', new: 'j' }), 'the base image changed: i -> j'],
    [cause('damaged', { new: 'gone' }), 'the record of its result could not be used (gone)'],
    [cause('pruned'), 'its result was in the cache once and has been pruned'],
  ];
  for (const [one, text] of words) assert.equal(causeText(one), text);
  assert.ok(causeText(cause('command', { old: 'x'.repeat(900), new: 'y' })).length < 200);
});
