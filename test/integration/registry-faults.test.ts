// A small part of scripts/registry-faults.ts, with more faults; and credentials that change while a build runs.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { startFaulty } from '../../src/testing/registry.ts';
import { TokenServer } from '../../src/testing/token-server.ts';
import { Daemon, Registry, TempDir } from './harness.ts';
import { runRegistryFaults } from './registry-faults.ts';

test('pushes, pulls and caches survive a registry of which one request in eight fails', async () => {
  const summary = await runRegistryFaults({ operations: 20, oneIn: 8, seed: 1, log: () => {} });
  assert.deepEqual(summary.failures, []);
  for (const [operation, count] of Object.entries(summary.operations)) assert.ok(count >= 4, operation);
  for (const [kind, count] of Object.entries(summary.faults)) assert.ok(count > 0, kind);
});

test('a token and a password that end during a build are asked for again', async () => {
  await using registry = await Registry.start();
  await registry.pushBusybox('base/busybox');
  const tokens = new TokenServer({ lifeMs: 2000, login: 'ann:one' });
  await using server = await startFaulty(registry.host, (request) => tokens.fault(request));
  await using daemon = await Daemon.start({ config: `[registry."${server.host}"]\nhttp = true\n` });
  using dir = new TempDir();
  const login = (text: string): void => {
    tokens.login = text;
    const auths = { [server.host]: { auth: Buffer.from(text).toString('base64') } };
    dir.write({ 'docker/config.json': JSON.stringify({ auths }) });
  };
  for (const noClientToken of ['0', '1']) {
    login('ann:one');
    const repository = `lasting/x${noClientToken}`;
    const context = dir.write({
      Dockerfile: `FROM ${server.host}/base/busybox\nCOPY data /\nRUN sleep 3; echo slept\n`,
      data: randomBytes(1000),
    });
    const name = `${server.host}/${repository}`;
    const output = `type=image,name=${name},push=true`;
    const exported = `type=registry,ref=${name}-cache,mode=max`;
    let slept = false;
    await daemon.build(context, ['--output', output, '--export-cache', exported], {
      env: { DOCKER_CONFIG: dir.join('docker'), BUILDKIT_NO_CLIENT_TOKEN: noClientToken },
      onStderr: (text) => {
        if (slept || !text.includes('slept\n')) return;
        slept = true;
        login('ann:two');
        tokens.revoke();
      },
    });
    assert.ok(slept);
    const manifest = await registry.manifest(repository, 'latest');
    assert.equal((manifest.layers as unknown[]).length, 3);
    await daemon.buildctl(['prune', '--all']);
  }
});
