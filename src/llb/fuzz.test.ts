import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from '../base/errors.ts';
import { Definition, Op } from './ops.ts';
import { parseDefinition } from './parse.ts';
import { decodeDefinition } from './encode.ts';
import { run } from './exec.ts';
import { copy, file, mkdir } from './file.ts';
import { marshal } from './marshal.ts';
import { image } from './source.ts';

const ROUNDS = 4000;

/** Deterministic, so that a failure can be repeated. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function sample(): Definition {
  const base = image('docker.io/library/busybox:latest');
  const step = run(base, { args: ['/bin/sh', '-c', 'true'] }).root;
  return marshal(file(step, [mkdir('/x', 0o755), copy(base, '/bin', '/y')]));
}

test('foreign definitions are parsed or refused, and nothing else', async () => {
  const random = generator(7);
  const good = sample();
  const bytes = Definition.encode(good).finish();
  let refused = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const damaged = Uint8Array.from(bytes);
    for (let i = 0; i <= random(4); i++) damaged[random(damaged.length)] = random(256);
    const cut = random(4) === 0 ? damaged.subarray(0, random(damaged.length)) : damaged;
    let definition: Definition;
    try {
      definition = decodeDefinition(cut);
    } catch {
      refused++; // the codec's own error: the call fails before anybody looks inside
      continue;
    }
    try {
      parseDefinition(definition);
    } catch (error) {
      assert.ok(error instanceof BuildError, `round ${round}: ${String(error)}`);
      refused++;
    }
  }
  assert.ok(refused > ROUNDS / 4, `${refused} of ${ROUNDS} refused`);
});

test('random ops never crash the reader', () => {
  const random = generator(11);
  for (let round = 0; round < ROUNDS; round++) {
    const noise = Uint8Array.from({ length: random(200) }, () => random(256));
    try {
      parseDefinition({
        def: [noise, Op.encode(Op.fromPartial({})).finish()],
        metadata: {},
        Source: undefined,
      });
    } catch (error) {
      assert.ok(error instanceof BuildError, `round ${round}: ${String(error)}`);
    }
  }
});
