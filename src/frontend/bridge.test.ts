import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError, Code } from '../base/errors.ts';
import { Bridge, type BridgeServices } from './bridge.ts';

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
