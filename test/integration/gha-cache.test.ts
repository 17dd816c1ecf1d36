// Caches in GitHub's cache service, both versions of it: written by one daemon, read by one that has nothing.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { ActionsCache, actionsToken, GITHUB_TOKEN } from '../../src/testing/actions-cache.ts';
import { Daemon, Registry, TempDir } from './harness.ts';

let daemon: Daemon;
let empty: Daemon;
let registry: Registry;
let actions: ActionsCache;
const dir = new TempDir();
const context = dir.join('ctx');

before(async () => {
  registry = await Registry.start();
  actions = await ActionsCache.start();
  await registry.pushBusybox();
  const env = { GITHUB_API_URL: actions.url };
  daemon = await Daemon.start({ config: registry.config, args: ['--debug'], env });
  empty = await Daemon.start({ config: registry.config, args: ['--debug'] });
  dir.write({
    'ctx/Dockerfile':
      'FROM busybox AS first\nCOPY in.txt /\nRUN cat /proc/sys/kernel/random/uuid >/made\n' +
      'FROM busybox\nRUN head -c 40000000 /dev/urandom >/large\nCOPY --from=first /made /\n',
    'ctx/in.txt': 'text',
  });
});

afterEach(() => {
  assert.deepEqual(actions.violations, []);
  actions.fault = undefined;
});

after(async () => {
  await empty?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await actions?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** As a job of GitHub Actions has it. */
function jobEnv(version: 1 | 2): Record<string, string> {
  return {
    ACTIONS_RUNTIME_TOKEN: actions.token,
    ...(version === 1
      ? { ACTIONS_CACHE_URL: actions.url }
      : { ACTIONS_CACHE_SERVICE_V2: 'true', ACTIONS_RESULTS_URL: actions.url }),
  };
}

const output = ['--output', `type=local,dest=${dir.join('out')}`];
const made = (): string => readFileSync(dir.join('out', 'made'), 'utf8');

function ends(stderr: string): { cached: number; ran: number } {
  const ids = [...stderr.matchAll(/^(#\d+) \[(?:first|stage-1) [^\]]*\] (?:RUN|COPY)/gm)].map((m) => m[1]!);
  // A result that turns out to be lost is told before its step runs.
  const of = (id: string): string =>
    [...stderr.matchAll(new RegExp(`^${id} (CACHED|DONE)`, 'gm'))].at(-1)?.[1] ?? '';
  const all = [...new Set(ids)].map(of);
  return {
    cached: all.filter((end) => end === 'CACHED').length,
    ran: all.filter((end) => end === 'DONE').length,
  };
}

async function onEmpty(args: readonly string[], env: Record<string, string>) {
  await empty.buildctl(['prune', '--all']);
  const { stderr } = await empty.build(context, [...args, ...output], { env });
  return { stderr, ...ends(stderr) };
}

for (const version of [1, 2] as const)
  test(`v${version}: every step of an exported cache is found, and no blob is sent twice`, async () => {
    const env = jobEnv(version);
    const cache = `type=gha,scope=v${version}`;
    const exported = ['--export-cache', `${cache},mode=max`];
    const { stderr } = await daemon.build(context, [...exported, ...output], { env });
    const first = made();
    assert.match(stderr, /exporting to GitHub Actions Cache\n(.*\n)*#\d+ preparing build cache for export/);
    assert.match(stderr, /writing layer sha256:[0-9a-f]{64} .*done/);
    const keys = actions.store.keys('buildkit-blob-1-sha256:');
    assert.equal(keys.length, 4, 'base, a copy, two runs; the other copy is the blob of a run');
    assert.ok(actions.store.size() > 40_000_000);

    const again = await onEmpty(['--import-cache', cache], env);
    assert.deepEqual([again.cached, again.ran], [4, 0], again.stderr);
    assert.match(again.stderr, /importing cache manifest from gha:\d+/);
    assert.equal(made(), first);

    const before = actions.requests.length;
    await empty.build(context, [...exported, ...output], { env });
    const sent = actions.requests.slice(before).filter((one) => /^(PUT|PATCH)/.test(one));
    assert.equal(sent.length, 1, 'the index only');
    assert.deepEqual(actions.store.keys('buildkit-blob-1-sha256:'), keys);
    for (const text of [stderr, again.stderr, daemon.log(), empty.log()])
      assert.ok(!text.includes(actions.token), 'the token is nowhere');
    actions.store.evict('');
  });

test('blobs that the service has dropped: their steps run again', async () => {
  const env = jobEnv(2);
  await daemon.build(context, ['--export-cache', 'type=gha,mode=max', ...output], { env });
  actions.store.evict('buildkit-blob-1-');
  const again = await onEmpty(['--import-cache', 'type=gha'], env);
  assert.equal(again.ran, 4, again.stderr);
  actions.store.evict('');
});

test('with a token for the API, what is there is listed and not asked for', async () => {
  const env = jobEnv(2);
  const cache = `type=gha,mode=max,repository=own/app,ghtoken=${GITHUB_TOKEN}`;
  await daemon.build(context, ['--export-cache', 'type=gha,mode=max'], { env });
  const before = actions.requests.length;
  await daemon.build(context, ['--export-cache', cache], { env });
  const [first, ...rest] = actions.requests.slice(before);
  assert.equal(first, 'GET /repos/own/app/actions/caches');
  assert.equal(rest.length, 4, 'the index: found, reserved, sent, finished');
  assert.ok(!daemon.log().includes(GITHUB_TOKEN));
  actions.store.evict('');
});

test('a service that does not answer: no import, and no export but with ignore-error', async () => {
  const env = jobEnv(2);
  actions.fault = () => ({ status: 403, body: '{"code":"permission_denied","msg":"not today"}' });
  const { stderr } = await empty.build(context, ['--import-cache', 'type=gha', ...output], { env });
  assert.match(stderr, /ERROR: unexpected status from POST request to .*: 403 Forbidden: not today/);
  const failed = await daemon.tryBuild(context, ['--export-cache', 'type=gha'], { env });
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /ERROR: .*403 Forbidden: not today/);
  await daemon.build(context, ['--export-cache', 'type=gha,ignore-error=true'], { env });
});

test('what is missing or has ended is said before the build', async () => {
  const said = async (env: Record<string, string>, attrs = ''): Promise<string> => {
    const { code, stderr } = await daemon.tryBuild(context, ['--export-cache', `type=gha${attrs}`], { env });
    assert.equal(code, 1);
    return stderr;
  };
  assert.match(await said({}), /cache with type gha requires url parameter to be set/);
  assert.match(
    await said({ ACTIONS_CACHE_URL: actions.url }),
    /requires token parameter or \$ACTIONS_RUNTIME_TOKEN/,
  );
  const ended = actionsToken([], { exp: 1000 });
  const stderr = await said({ ...jobEnv(1), ACTIONS_RUNTIME_TOKEN: ended });
  assert.match(stderr, /failed to configure gha cache exporter: cache token expired at 1970-01-01T00:16:40/);
  assert.ok(!stderr.includes(ended));
});

test('a daemon whose caches must be signed says that it cannot', async () => {
  const config = `${registry.config}[ghacache.verify]\nrequired = true\n`;
  await using strict = await Daemon.start({ config });
  assert.match(strict.log(), /caches of type gha cannot be used: the configuration wants them signed/);
  const failed = await strict.tryBuild(context, ['--export-cache', 'type=gha'], { env: jobEnv(1) });
  assert.match(
    failed.stderr,
    /failed to configure gha cache exporter: signed caches of GitHub Actions are not built/,
  );
  const { stderr } = await strict.build(context, ['--import-cache', 'type=gha'], { env: jobEnv(1) });
  assert.match(
    stderr,
    /failed to configure gha cache importer: signed caches of GitHub Actions are not built/,
  );
});
