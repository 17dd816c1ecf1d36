import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError, Code } from '../base/errors.ts';
import { Definition } from '../llb/ops.ts';
import { Bridge, type BridgeServices, withoutDetour } from './bridge.ts';

const forever = new AbortController().signal;
const request = { definition: undefined, frontendInputs: {}, evaluate: false };

test('an error of a frontend names the frontend', async () => {
  const frontend = () => Promise.reject(new BuildError('no', { code: Code.notFound }));
  const services = { frontends: new Map([['f.v0', frontend]]) } as unknown as BridgeServices;
  const bridge = new Bridge(services, {
    sessionId: '',
    inputs: {},
    root: { ...request, frontend: '', frontendOpt: {} },
  });
  const solve = (name: string, frontendOpt = {}) =>
    bridge.solve({ ...request, frontend: name, frontendOpt }, forever);
  await assert.rejects(solve('f.v0'), {
    message: 'no',
    code: Code.notFound,
    details: [{ type: 'errdefs.Frontend', value: { name: 'f.v0' } }],
  });
  await assert.rejects(solve('f.v0', { source: 'image' }), {
    details: [{ type: 'errdefs.Frontend', value: { name: 'f.v0', source: 'image' } }],
  });
  await assert.rejects(solve('g.v0'), { message: 'invalid frontend: g.v0', details: [] });
});

test('a frontend that is asked by another has the inputs of that request, and no others', async () => {
  const definition = (byte: number) => Definition.fromPartial({ def: [Uint8Array.of(byte)] });
  const seen: unknown[] = [];
  const frontend = async ({ inputs }: Bridge) => {
    seen.push(inputs);
    return { ref: null, metadata: new Map() };
  };
  const services = { frontends: new Map([['f.v0', frontend]]) } as unknown as BridgeServices;
  const bridge = new Bridge(services, {
    sessionId: '',
    inputs: { outer: definition(1) },
    root: { ...request, frontend: '', frontendOpt: {} },
  });
  const asked = { ...request, frontend: 'f.v0', frontendOpt: {} };
  await bridge.solve({ ...asked, frontendInputs: { inner: definition(2) } }, forever);
  await bridge.solve(asked, forever);
  assert.deepEqual(seen, [{ inner: definition(2) }, {}]);
});

test('gateway.v0 for the frontend inside the daemon is that frontend, unless an image is put in its place', () => {
  const asked = (frontendOpt: Record<string, string>) => {
    const { frontend, frontendOpt: own } = withoutDetour({ ...request, frontend: 'gateway.v0', frontendOpt });
    return [frontend, own];
  };
  const source = 'dockerfile.v0';
  assert.deepEqual(asked({ source, target: 't' }), ['dockerfile.v0', { target: 't' }]);
  const others: readonly Record<string, string>[] = [
    { source: 'docker/dockerfile' },
    { source, 'context:dockerfile.v0': 'docker-image://x' },
    { source, 'context:dockerfile.v0::linux/amd64': 'docker-image://x' },
  ];
  for (const other of others) assert.deepEqual(asked(other), ['gateway.v0', other]);
});
