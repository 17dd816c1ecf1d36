import assert from 'node:assert/strict';
import { test } from 'node:test';
import { solveRequest } from './request.ts';

test('a cache of GitHub Actions without attributes is that of the job', () => {
  const names = [
    'ACTIONS_RUNTIME_TOKEN',
    'ACTIONS_CACHE_URL',
    'ACTIONS_RESULTS_URL',
    'ACTIONS_CACHE_SERVICE_V2',
  ];
  const before = names.map((name) => [name, process.env[name]] as const);
  for (const name of names) delete process.env[name];
  try {
    const options = {
      cacheImports: [{ type: 'gha' }],
      cacheExports: [{ type: 'gha', attrs: { mode: 'max' } }],
    };
    assert.throws(() => solveRequest(options), /type gha requires url parameter/);
    Object.assign(process.env, { ACTIONS_RUNTIME_TOKEN: 't', ACTIONS_CACHE_URL: 'http://one' });
    const { cacheImports, cacheExports } = solveRequest(options);
    assert.deepEqual(cacheImports, [{ type: 'gha', attrs: { url: 'http://one', token: 't' } }]);
    assert.deepEqual(cacheExports?.[0]?.attrs, { mode: 'max', url: 'http://one', token: 't' });
  } finally {
    for (const [name, value] of before)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  }
});
