import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { hostPlatform } from '../oci/platform.ts';
import { PROBES, probePlatforms, probeProgram } from './probe.ts';

test('the machine runs its own programs', async () => {
  const found = await probePlatforms(tmpdir(), process.env.PATH ?? '');
  assert.ok(found.some((p) => p.architecture === hostPlatform().architecture));
});

test('a program that does not exit in order is no support', () => {
  const dir = mkdtempSync(join(tmpdir(), 'probe-test-'));
  const native = PROBES.find((p) => p.platforms[0]?.architecture === hostPlatform().architecture);
  assert.ok(native);
  const path = join(dir, 'native');
  writeFileSync(path, probeProgram(native));
  chmodSync(path, 0o755);
  const answers = hostPlatform().architecture === 'amd64' ? [65, 66] : [0];
  assert.ok(answers.includes(spawnSync(path).status ?? -1));
  const foreign = PROBES.find((p) => p.platforms[0]?.architecture === 'loong64');
  assert.ok(foreign);
  const head = probeProgram(foreign);
  assert.deepEqual([head[4], head[5], head.readUInt16LE(18)], [2, 1, 258]);
  rmSync(dir, { recursive: true });
});
