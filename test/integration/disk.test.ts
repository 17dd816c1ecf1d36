// What the daemon keeps on its disk, and how it lets go of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Daemon, TempDir } from './harness.ts';
import { eventually } from './state.ts';

interface UsageJson {
  readonly id: string;
  readonly size: number;
  readonly inUse: boolean;
  readonly description: string;
}

async function usage(daemon: Daemon): Promise<readonly UsageJson[]> {
  const { stdout } = await daemon.buildctl(['du', '--format', 'json']);
  return (JSON.parse(stdout.toString()) as UsageJson[] | null) ?? [];
}

test('garbage is collected by the policies of the configuration, and not where that is switched off', async () => {
  using dir = new TempDir();
  const root = dir.join('root');
  const context = dir.write({
    'a/Dockerfile': 'FROM scratch\nCOPY one /\nCOPY two /\n',
    'a/one': 'x'.repeat(100_000),
    'a/two': 'y'.repeat(100_000),
  });
  {
    await using daemon = await Daemon.start({ root, config: 'gc = false\n' });
    await daemon.build(`${context}/a`);
    assert.ok((await usage(daemon)).length >= 3);
    const { stdout } = await daemon.buildctl(['debug', 'workers', '--format', '{{json .}}']);
    assert.deepEqual(JSON.parse(stdout.toString())[0].gcPolicy, []);
  }
  const config = '[[worker.oci.gcpolicy]]\nall = true\nmaxUsedSpace = "150KB"\n';
  await using daemon = await Daemon.start({ root, config });
  const { stdout } = await daemon.buildctl(['debug', 'workers', '--verbose']);
  assert.match(stdout.toString(), /GC Policy rule#0:\n\s+All:\s+true\n\s+Maximum used space:\s+153\.6kB\n/);
  await eventually(async () => {
    const kept = await usage(daemon);
    const bytes = kept.reduce((sum, record) => sum + record.size, 0);
    assert.ok(bytes < 150 * 1024, JSON.stringify(kept));
  }, 30_000);
  assert.ok((await usage(daemon)).length > 0, 'it stops at the cap');
});
