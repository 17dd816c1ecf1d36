import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const STARTER = join(dirname(fileURLToPath(import.meta.url)), '../scripts/starter.cjs');
const dir = mkdtempSync(join(tmpdir(), 'bkt-starter-'));
after(() => rmSync(dir, { recursive: true, force: true }));

// A program that is asked to call many functions compiles them; another setting makes a run seem long.
const functions = Array.from(
  { length: 200 },
  (_, i) => `function f${i}(a) { return [a, ${i}, a + ${i}].join(); }`,
);
const calls = Array.from({ length: 200 }, (_, i) => `f${i}(1);`).join(' ');
const program = `${functions.join('\n')}
if (process.env.CALL) { ${calls} }
if (process.env.LONG) process.uptime = () => 60;
console.log('done');
`;
mkdirSync(join(dir, 'lib'));
writeFileSync(join(dir, 'lib/p.cjs'), program);
writeFileSync(join(dir, 'p.cjs'), readFileSync(STARTER, 'utf8').replaceAll('__PROGRAM__', '"p"'));

/** Size of the compiled code that is kept after a run, and when that was written. */
function run(env: NodeJS.ProcessEnv = {}): { size: number; mtimeMs: number } {
  const { stdout } = spawnSync(process.execPath, [join(dir, 'p.cjs')], { env: { ...process.env, ...env } });
  assert.equal(String(stdout), 'done\n');
  const names = readdirSync(join(dir, 'code-cache'));
  assert.equal(names.length, 1, 'nothing half written is left');
  return statSync(join(dir, 'code-cache', names[0] as string));
}

test('compiled code is kept by the first run, and replaced by a long one that has compiled more', () => {
  const first = run();
  const short = run({ CALL: '1' });
  assert.equal(short.mtimeMs, first.mtimeMs, 'a short run takes no time for it');
  const same = run({ LONG: '1' });
  assert.equal(same.mtimeMs, first.mtimeMs, 'nothing new');
  const more = run({ CALL: '1', LONG: '1' });
  assert.ok(more.size > first.size * 1.1, `${more.size} after ${first.size}`);
  const after = run({ LONG: '1' });
  assert.equal(after.mtimeMs, more.mtimeMs, 'less does not take its place');
});
