// The example that copies, checks and shows images, with a real registry and a foreign reader.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Registry } from './integration/harness.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const skip = existsSync(join(ROOT, 'dist/npm/oci.mjs')) ? false : 'dist/ is not built';
const dir = mkdtempSync(join(tmpdir(), 'oci-example-'));
after(() => rmSync(dir, { recursive: true, force: true }));

async function main(...args: string[]): Promise<string[]> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(ROOT, 'examples/oci/main.ts'), ...args],
    { cwd: dir },
  );
  return stdout.trimEnd().split('\n');
}

test('copy, check, show: from a registry to a folder and to another repository', { skip }, async () => {
  await using registry = await Registry.start();
  const name = await registry.pushBusybox('library/busybox', '1');
  const copied = await main('copy', name, 'oci:images:1');
  assert.match(copied.at(-1) ?? '', /^sha256:[0-9a-f]{64}: 3 blobs sent, \d+ bytes$/);
  assert.deepEqual(await main('check', 'oci:images:1'), [
    `${copied.at(-1)?.slice(0, 71)}: 3 blobs, 0 problems`,
  ]);
  const inspected = execFileSync('skopeo', ['inspect', 'oci:images:1'], { cwd: dir, encoding: 'utf8' });
  assert.equal(JSON.parse(inspected).Os, 'linux');
  const other = await main('copy', name, `${registry.host}/other/box:2`);
  assert.equal(other.filter((line) => line.startsWith('mounted')).length, 2);
  assert.match(
    (await main('copy', 'oci:images:1', `${registry.host}/other/box:2`)).at(-1) ?? '',
    / 0 blobs sent/,
  );
  assert.match((await main('show', `${registry.host}/other/box:2`)).join('\n'), /"Cmd": \[\n {4}"sh"/);

  const blobs = join(dir, 'images/blobs/sha256');
  const largest = readdirSync(blobs).find((blob) => !copied.at(-1)?.includes(blob)) ?? '';
  writeFileSync(join(blobs, largest), 'damaged');
  await assert.rejects(main('check', 'oci:images:1'), (error: { stdout: string }) =>
    /1 problems|2 problems|is not in images/.test(error.stdout),
  );
});
