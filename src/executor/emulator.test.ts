import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createLogger } from '../base/log.ts';
import { parsePlatform } from '../oci/platform.ts';
import { findEmulator } from './emulator.ts';

test('emulators by platform, for what the machine does not run itself', () => {
  const dir = mkdtempSync(join(tmpdir(), 'emulator-'));
  const names = ['aarch64', 'x86_64', 'i386', 's390x', 'arm', 'ppc64le', 'riscv64'];
  for (const name of names) {
    writeFileSync(join(dir, `buildkit-qemu-${name}`), '');
    chmodSync(join(dir, `buildkit-qemu-${name}`), 0o755);
  }
  const warnings: string[] = [];
  const log = createLogger({ level: 'warn', format: 'json', write: (line) => warnings.push(line) });
  const find = (platform: string, ...supported: string[]): string | undefined =>
    findEmulator(parsePlatform(platform), {
      supported: supported.map(parsePlatform),
      searchPath: `/nowhere:${dir}`,
      log,
    })?.slice(dir.length + 1);
  const amd64 = ['linux/amd64', 'linux/amd64/v2'];
  for (const [platform, found] of [
    ['linux/amd64', undefined],
    ['linux/amd64/v2', undefined],
    ['linux/386', undefined],
    ['linux/arm64', 'buildkit-qemu-aarch64'],
    ['linux/arm/v6', 'buildkit-qemu-arm'],
    ['linux/s390x', 'buildkit-qemu-s390x'],
    ['linux/ppc64le', 'buildkit-qemu-ppc64le'],
    ['linux/riscv64', 'buildkit-qemu-riscv64'],
  ] as const)
    assert.equal(find(platform, ...amd64), found, platform);
  assert.equal(find('linux/amd64/v2', 'linux/arm64'), 'buildkit-qemu-x86_64');
  assert.equal(find('linux/386', 'linux/arm64'), 'buildkit-qemu-i386');
  assert.equal(find('linux/arm/v7', 'linux/arm64'), undefined);
  assert.deepEqual(warnings, []);
  assert.throws(() => find('linux/amd64/v3', ...amd64), {
    message:
      'no support for running processes with linux/amd64/v3 platform, supported: linux/amd64, linux/amd64/v2',
  });
  assert.equal(find('linux/mips64', ...amd64), undefined);
  assert.match(warnings.join(), /buildkit-qemu-mips64.*executable file not found in \$PATH/);
  rmSync(dir, { recursive: true });
});
