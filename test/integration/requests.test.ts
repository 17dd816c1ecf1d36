// How many requests, and which blobs, pushes and cache exports cost that bring little or nothing new.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type FaultyServer, startFaulty } from '../../src/testing/registry.ts';
import { Daemon, Registry, TempDir } from './harness.ts';

/** Requests that an export of what is there already takes: for what the tag names. */
const MAX_REQUESTS = 1;

let registry: Registry;
let counting: FaultyServer;
let daemon: Daemon;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox('base/busybox');
  counting = await startFaulty(registry.host, () => undefined);
  daemon = await Daemon.start({ config: `[registry."${counting.host}"]\nhttp = true\n` });
  const runs = Array.from({ length: 6 }, (_, i) => `RUN echo ${i} >/file${i}\n`).join('');
  dir.write({
    'same/Dockerfile': `FROM ${counting.host}/base/busybox\n${runs}`,
    'more/Dockerfile': `FROM ${counting.host}/base/busybox\n${runs}RUN echo more >/more\n`,
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await counting?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** What a build asked of the registry. */
async function requestsOf(context: string, args: readonly string[], on = daemon): Promise<string[]> {
  const from = counting.seen.length;
  await on.build(dir.join(context), args);
  return counting.seen.slice(from).map(({ method, url }) => `${method} ${url.replace(/[?].*/, '')}`);
}

/** Without those for the base image's manifest, which every build looks up. */
function sent(requests: readonly string[]): string[] {
  return requests.filter((request) => !request.includes('/base/'));
}

const uploads = (requests: readonly string[]): string[] => requests.filter((r) => r.startsWith('PUT'));

for (const form of ['', ',image-manifest=false', ',compression=zstd,force-compression=true']) {
  test(`a cache that is there already is exported in a few requests${form}`, async () => {
    const name = `cache/x${form.length}`;
    const args = ['--export-cache', `type=registry,ref=${counting.host}/${name},mode=max${form}`];
    // 7 layers, config and manifest; the base's layer is taken over from its repository as it is.
    assert.equal(uploads(await requestsOf('same', args)).length, form.includes('zstd') ? 9 : 8);
    const second = sent(await requestsOf('same', args));
    assert.deepEqual(uploads(second), []);
    assert.ok(second.length <= MAX_REQUESTS, second.join('\n'));
    // One layer more: nothing is asked about those that the old manifest names.
    const third = sent(await requestsOf('more', args));
    assert.equal(uploads(third).length, 3, third.join('\n'));
    assert.ok(third.length <= 12, third.join('\n'));
    assert.ok(await registry.manifest(name, 'latest'));
  });
}

test('a pushed image that is there already costs a few requests, by name, index or digest', async () => {
  for (const [name, attrs] of [
    ['named', ''],
    ['digest', ',push-by-digest=true'],
  ]) {
    const args = ['--output', `type=image,name=${counting.host}/image/${name},push=true${attrs}`];
    // The second image's blobs are taken over from the first's.
    assert.equal(uploads(await requestsOf('same', args)).length, name === 'named' ? 8 : 2);
    const second = sent(await requestsOf('same', args));
    assert.deepEqual(uploads(second), []);
    assert.ok(second.length <= MAX_REQUESTS, second.join('\n'));
  }
  // Provenance is of this build: its parts are new, the image is not.
  const output = `type=image,name=${counting.host}/image/index,push=true`;
  const args = ['--output', output, '--opt', 'attest:provenance=mode=min'];
  await requestsOf('same', args);
  const second = sent(await requestsOf('same', args));
  assert.equal(uploads(second).filter((request) => request.includes('/blobs/')).length, 1, second.join('\n'));
});

test('what an old manifest names and is gone is sent again', async () => {
  const name = 'cache/gone';
  const args = ['--export-cache', `type=registry,ref=${counting.host}/${name},mode=max`];
  await requestsOf('same', args);
  const manifest = await registry.manifest(name, 'latest');
  const [layer] = (manifest.layers as { digest: string }[]).slice(-1);
  const answer = await fetch(`http://${registry.host}/v2/${name}/blobs/${layer?.digest}`, {
    method: 'DELETE',
  });
  assert.equal(answer.status, 202);
  await requestsOf('more', args);
  const again = await fetch(`http://${registry.host}/v2/${name}/blobs/${layer?.digest}`, { method: 'HEAD' });
  assert.equal(again.status, 200);
});
