import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from '../base/errors.ts';
import { parseConfigFile } from './config-file.ts';

const SAMPLE = `root = "/var/lib/buildkit"
insecure-entitlements = ["network.host"]
[log]
  format = "text"
[worker.oci]
  enabled = true
  platforms = ["linux/amd64"]
  reservedSpace = "30%"
  max-parallelism = 4
  [[worker.oci.gcpolicy]]
    keepDuration = "48h"
    filters = ["type==source.local"]
[registry."docker.io"]
  mirrors = ["mirror.example/path"]
  http = false
`;
const ALPHABET = 'a"[]{}=\n.,#\'\\0-9e+ \u0000é';

test('damaged configuration files are refused by name or read, and nothing else', async () => {
  let state = 5;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let round = 0; round < 3000; round++) {
    const chars = [...SAMPLE];
    for (let i = 0; i <= random(4); i++)
      chars[random(chars.length)] = ALPHABET[random(ALPHABET.length)] ?? '';
    try {
      await parseConfigFile(chars.join(''), 'buildkitd.toml', () => {});
    } catch (error) {
      assert.ok(error instanceof BuildError, `round ${round}: ${String(error)}\n${chars.join('')}`);
    }
  }
});
