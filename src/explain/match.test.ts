import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KeptStep } from './kept.ts';
import { labelOf } from './label.ts';
import { matchSteps } from './match.ts';

function step(name: string, kind = 'exec', code?: string): KeptStep {
  const rest = { kind, facts: {}, pin: '', inputs: [], contents: [], keys: [], end: 'done' as const };
  return { name, ...rest, ...(code === undefined ? {} : { code }) };
}

function matched(now: readonly KeptStep[], before: readonly KeptStep[]): string[] {
  const { steps } = matchSteps(now, before);
  return [...steps].map(
    ([a, { index, same }]) => `${now[a]?.name} ${same ? '=' : '~'} ${before[index]?.name}`,
  );
}

test('names in their parts', () => {
  const parts = { platform: '', stage: 'build', position: 2, total: 5, text: 'COPY . .' };
  assert.deepEqual(labelOf('[build 2/5] COPY . .', undefined), parts);
  const arm = labelOf('[linux/arm64 build  2/15] RUN a\nb', undefined);
  assert.deepEqual(arm, {
    platform: 'linux/arm64',
    stage: 'build',
    position: 2,
    total: 15,
    text: 'RUN a\nb',
  });
  assert.deepEqual(labelOf('[2/3] RUN x', 'RUN $X'), { ...parts, stage: '', total: 3, text: 'RUN $X' });
  assert.equal(labelOf('[stage-1 2/3] RUN x', undefined).stage, '');
  assert.equal(labelOf('[internal] load build context', undefined).position, 0);
});

test('the same instruction first, then the same place, then the same kind', () => {
  const before = ['[a 1/3] FROM b', '[a 2/3] RUN one', '[a 3/3] RUN two'].map((name) => step(name));
  const inserted = ['[a 1/4] FROM b', '[a 2/4] RUN new', '[a 3/4] RUN one', '[a 4/4] RUN two'];
  assert.deepEqual(
    matched(
      inserted.map((name) => step(name)),
      before,
    ),
    [
      '[a 1/4] FROM b = [a 1/3] FROM b',
      '[a 3/4] RUN one = [a 2/3] RUN one',
      '[a 4/4] RUN two = [a 3/3] RUN two',
    ],
  );
  const changed = ['[a 1/3] FROM b', '[a 2/3] RUN other', '[a 3/3] RUN two'].map((name) => step(name));
  assert.deepEqual(matched(changed, before)[2], '[a 2/3] RUN other ~ [a 2/3] RUN one');
  const renamed = before.map(({ name }) => step(name.replace('[a', '[z')));
  assert.equal(matched(renamed, before).filter((line) => line.includes(' = ')).length, 3);
});

test('digests of bases and values of variables do not make another step', () => {
  const base = (hex: string) => step(`docker-image://x@sha256:${hex.repeat(64)}`, 'source');
  assert.equal(matched([base('a')], [base('b')]).length, 1);
  const run = (value: string) => step(`[2/2] RUN echo ${value}`, 'exec', 'RUN echo $V');
  assert.deepEqual(matched([run('1')], [run('2')]), ['[2/2] RUN echo 1 = [2/2] RUN echo 2']);
});

test('a step that is there twice is the same one twice', () => {
  assert.equal(matched([step('[1/1] RUN a'), step('[1/1] RUN a')], [step('[1/1] RUN a')]).length, 2);
});

test('builds of something else are unlike', () => {
  const one = ['[internal] load build context', '[1/3] FROM a', '[2/3] RUN b'].map((name) => step(name));
  const other = ['[internal] load build context', '[1/9] FROM z', '[2/9] COPY y', '[3/9] RUN w'];
  assert.equal(matchSteps(one, one).likeness, 1);
  assert.ok(
    matchSteps(
      one,
      other.map((name) => step(name)),
    ).likeness <= 0.25,
  );
  assert.equal(matchSteps([], []).likeness, 0);
});

test('thousands of equal steps are matched in no time', () => {
  const many = Array.from({ length: 5000 }, () => step('the same'));
  assert.equal(matchSteps(many, many).steps.size, 5000);
});
