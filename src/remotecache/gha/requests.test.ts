import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BuildError } from '../../base/errors.ts';
import { HttpClient } from '../../registry/http.ts';
import { ActionsCache } from '../../testing/actions-cache.ts';
import type { Fault } from '../../testing/registry.ts';
import { isTaken, Requests, retryAfterMs } from './requests.ts';

const signal = new AbortController().signal;

/** Time that passes with sleep only; the sleeps, milliseconds. */
function fakeClock() {
  let now = Date.parse('2026-01-01T00:00:00Z');
  const slept: number[] = [];
  return {
    slept,
    now: () => now,
    sleep: async (ms: number) => {
      slept.push(ms);
      now += ms;
      await undefined;
    },
  };
}

/** A request whose first answers are `faults`. */
async function asked(faults: readonly Fault[] | ((token: string) => readonly Fault[]), timeoutMs: number) {
  await using server = await ActionsCache.start();
  const list = typeof faults === 'function' ? faults(server.token) : faults;
  server.fault = ({ index }) => list[index];
  const http = new HttpClient({ userAgent: 'test' });
  const clock = fakeClock();
  const lines: string[] = [];
  const { token } = server;
  const url = new URL('_apis/artifactcache/cache?keys=secret', server.url);
  const headers = { accept: 'application/json;api-version=6.0-preview.1' };
  try {
    const requests = new Requests({ http, clock }, timeoutMs);
    const context = { signal, log: (line: string) => lines.push(line) };
    let error: unknown;
    await requests.json({ method: 'GET', url, token, headers }, context).catch((e: unknown) => (error = e));
    const count = server.requests.length;
    return { error: error as BuildError | undefined, slept: clock.slept, count, lines };
  } finally {
    await http.close();
  }
}

const busy = (after?: string): Fault => ({
  status: 429,
  ...(after === undefined ? {} : { headers: { 'retry-after': after } }),
});

test('a service that fails for a moment is asked again, so often and no more', async () => {
  const failing: Fault = { status: 503, body: '{"message":"down"}' };
  const passing = await asked([{ hangUp: true }, failing, { status: 500 }], 60_000);
  assert.match(passing.error?.message ?? '', /400 Bad Request: version/, 'the answer after the faults');
  assert.deepEqual(passing.slept, [1000, 2000, 4000]);
  assert.match(passing.lines[1]!, /503 Service Unavailable: down: waiting 2s\n$/);
  const lasting = await asked(Array<Fault>(20).fill(failing), 600_000);
  assert.match(lasting.error?.message ?? '', /^unexpected status from GET request to .*keys=REDACTED: 503/);
  assert.deepEqual([lasting.count, lasting.slept], [6, [1000, 2000, 4000, 8000, 16000]]);
  const short = await asked(Array<Fault>(20).fill(failing), 5000);
  assert.match(short.error?.message ?? '', /^maximum timeout of 5s reached: unexpected status .* 503/);
  assert.equal(short.count, 3);
});

test('too many requests: as long as the service says, else longer each time, within the timeout', async () => {
  const told = await asked([busy('3'), busy('0'), busy('Thu, 01 Jan 2026 00:00:13 GMT')], 60_000);
  assert.deepEqual(told.slept, [3000, 200, 9800]);
  const untold = await asked(Array<Fault>(9).fill(busy()), 600_000);
  assert.deepEqual(untold.slept, [1000, 2000, 4000, 8000, 16000, 32000, 64000, 90000, 90000]);
  const late = await asked([busy('61')], 60_000);
  assert.match(late.error?.message ?? '', /^maximum timeout of 60s reached: .* 429 Too Many Requests/);
  assert.equal(late.count, 1);
});

test('what will not pass is not tried again; a token that the service repeats is masked', async () => {
  const refused = await asked(
    (token) => [{ status: 403, body: JSON.stringify({ message: `bad token ${token}` }) }],
    60_000,
  );
  assert.equal(refused.count, 1);
  assert.match(refused.error?.message ?? '', /403 Forbidden: bad token xxxxx$/);
  const html = await asked([{ status: 404, body: '<html>' }], 60_000);
  assert.match(html.error?.message ?? '', /: 404 Not Found$/);
  const noJson = await asked([{ status: 200, body: 'https://signed.example/?sig=1' }], 60_000);
  assert.match(noJson.error?.message ?? '', /^invalid answer to GET .*: it is no JSON object$/);
});

test('a key that is taken, in the words of either version', async () => {
  for (const [status, body, taken] of [
    [409, '', true],
    [400, '{"message":"x","typeKey":"ArtifactCacheItemAlreadyExistsException"}', true],
    [400, '{"code":"already_exists","msg":"x"}', true],
    [400, '{"message":"Cache already exists. Scope: x"}', true],
    [400, '{"message":"x"}', false],
  ] as const) {
    const { error } = await asked([{ status, body }], 1000);
    assert.equal(isTaken(error), taken, `${status} ${body}`);
  }
});

test('all requests of a cache pause together', async () => {
  await using server = await ActionsCache.start({ fault: ({ index }) => (index < 3 ? busy() : undefined) });
  const http = new HttpClient({ userAgent: 'test' });
  // Time goes on when all three wait.
  let now = 1;
  const slept: number[] = [];
  let wake = Promise.withResolvers<void>();
  const sleepers = async (ms: number): Promise<void> => {
    const all = wake.promise;
    if (slept.push(ms) % 3 === 0) {
      now += ms;
      wake.resolve();
      wake = Promise.withResolvers<void>();
    }
    await all;
  };
  const requests = new Requests({ http, clock: { now: () => now, sleep: sleepers } }, 60_000);
  const url = new URL('_apis/artifactcache/none', server.url);
  const one = (): Promise<unknown> =>
    requests.json({ method: 'GET', url, token: server.token }, { signal }).catch(() => {});
  await Promise.all([one(), one(), one()]);
  assert.equal(server.requests.length, 6);
  assert.deepEqual(slept, [1000, 1000, 1000], 'three refusals are one pause');
  await http.close();
});

test('Retry-After', () => {
  assert.equal(retryAfterMs('2', 0), 2000);
  assert.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:05 GMT', 2000), 3000);
  assert.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:05 GMT', 9000), 0);
  for (const text of [undefined, '', 'soon']) assert.equal(retryAfterMs(text, 0), undefined);
});
