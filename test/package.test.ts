// The npm package: what it holds, what it needs, and what it says on an old Node.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  DAEMON_NODE_FLAGS,
  daemonEnvironment,
  MALLOC_TUNABLES,
  PINNED_NODE_FLAGS,
} from '../src/client/daemon-flags.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const BUILT = existsSync(join(ROOT, 'dist/npm/buildctl.cjs'));
const skip = BUILT ? false : 'dist/ is not built';

interface Manifest {
  readonly bin: Record<string, string>;
  readonly files: readonly string[];
  readonly engines: { readonly node: string };
  readonly dependencies: Record<string, string>;
}
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest;

test('bin entries are executable scripts of the package', { skip }, () => {
  assert.deepEqual(Object.keys(manifest.bin).sort(), ['buildctl', 'buildkitd']);
  for (const [name, path] of Object.entries(manifest.bin)) {
    assert.ok(manifest.files.some((entry) => path.startsWith(`${entry}/`)));
    const node =
      name === 'buildkitd'
        ? `-S GLIBC_TUNABLES=${MALLOC_TUNABLES} node ${DAEMON_NODE_FLAGS.join(' ')}`
        : 'node';
    assert.equal(readFileSync(join(ROOT, path), 'utf8').split('\n')[0], `#!/usr/bin/env ${node}`);
    assert.ok((statSync(join(ROOT, path)).mode & 0o111) !== 0);
  }
});

test('the launcher of a checkout runs the daemon with the same flags', () => {
  const text = readFileSync(join(ROOT, 'bin/buildkitd'), 'utf8');
  assert.ok(text.includes(`exec "$node" ${PINNED_NODE_FLAGS.join(' ')} "$root/dist/buildkitd.cjs"`));
  assert.ok(
    text.includes(`export GLIBC_TUNABLES="${MALLOC_TUNABLES}\${GLIBC_TUNABLES:+:$GLIBC_TUNABLES}"\n`),
  );
  assert.equal(daemonEnvironment({ A: '1' }).GLIBC_TUNABLES, MALLOC_TUNABLES);
  assert.equal(daemonEnvironment({ GLIBC_TUNABLES: 'x=1' }).GLIBC_TUNABLES, `${MALLOC_TUNABLES}:x=1`);
});

test('everything that is packed exists, and nothing but products and documents is', { skip }, () => {
  assert.deepEqual(
    manifest.files.filter((entry) => !existsSync(join(ROOT, entry))),
    [],
  );
  assert.deepEqual(
    manifest.files.filter((entry) => !/^dist\/npm$|\.md$|^LICENSE$/.test(entry)),
    [],
  );
});

test('bundles need nothing but Node and the listed dependencies', { skip }, () => {
  const allowed = new Set(Object.keys(manifest.dependencies));
  for (const name of ['buildctl', 'buildkitd', 'worker']) {
    const text = readFileSync(join(ROOT, `dist/npm/lib/${name}.cjs`), 'utf8');
    const needed = [...text.matchAll(/\brequire\("([^"]+)"\)/g)].map((m) => m[1]!);
    assert.deepEqual(
      [...new Set(needed)].filter((id) => !isBuiltin(id) && !allowed.has(id)),
      [],
    );
  }
});

test('licences of what is bundled are in the package', { skip }, () => {
  const text = readFileSync(join(ROOT, 'dist/npm/THIRD-PARTY.txt'), 'utf8');
  for (const name of ['@bufbuild/protobuf', 'smol-toml', 'yaml'])
    assert.match(text, new RegExp(`^${name} \\d`, 'm'));
});

test('the version is said, and an old Node is refused in words', { skip }, () => {
  for (const [name, path] of Object.entries(manifest.bin)) {
    const file = join(ROOT, path);
    const version = execFileSync(process.execPath, [file, '--version'], { encoding: 'utf8' });
    assert.match(version, new RegExp(`^${name} buildkit-ts v\\d`));
    // Stands for an old Node: everything but the number that the launcher reads.
    const dir = mkdtempSync(join(tmpdir(), 'package-'));
    try {
      const pretend = join(dir, 'old.cjs');
      const versions = `{ ...process.versions, node: '20.1.0' }`;
      writeFileSync(pretend, `Object.defineProperty(process, 'versions', { value: ${versions} });`);
      assert.throws(
        () => execFileSync(process.execPath, ['-r', pretend, file, '--version'], { stdio: 'pipe' }),
        (error: { status: number; stderr: Buffer }) =>
          error.status === 1 && error.stderr.toString().includes(`${name}: needs Node 24 or newer`),
      );
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  }
});

test('launchers are written in the syntax of old engines', { skip }, () => {
  for (const path of Object.values(manifest.bin)) {
    const text = readFileSync(join(ROOT, path), 'utf8');
    assert.doesNotMatch(text, /=>|`|\b(?:let|const|import|async|using)\b|\?\.|\?\?/);
  }
});
