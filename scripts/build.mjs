// Bundles the executables into dist/: plain CommonJS files that start without a loader.
// koffi stays outside: a native library finds its own files.
//   dist/lib/         the bundles
//   dist/*.cjs        for bin/ of a checkout: starters that keep compiled code between runs
//   dist/npm/         the published package: launchers that check the version of Node, the bundles in lib/, and the
//                     modules that other programs import, with their types
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { DAEMON_NODE_FLAGS, MALLOC_TUNABLES } from '../src/client/daemon-flags.ts';
import { buildLibraries } from './build-library.mjs';
import { later } from './later-plugin.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const out = join(root, 'dist');
const PROGRAMS = ['buildctl', 'buildkitd'];
const pkg = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const oldest = Number(/\d+/.exec(pkg.engines.node)[0]);
const shared = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: `node${oldest}`,
  format: 'cjs',
  external: ['koffi'],
  supported: { 'dynamic-import': false }, // require() of what is in Node: its loader of modules costs a start
  legalComments: 'none',
  logLevel: 'warning',
  logOverride: { 'empty-import-meta': 'silent' }, // used only when run from sources
  define: {
    __VERSION__: JSON.stringify(`v${pkg.version}`),
    __REVISION__: JSON.stringify(process.env.REVISION ?? commit()),
  },
  minifySyntax: true,
  minifyWhitespace: true,
  lineLimit: 160, // an uncaught error prints the line it comes from
};
const lib = join(out, 'lib');
const options = { ...shared, metafile: true, outdir: lib, outExtension: { '.js': '.cjs' } };
const daemon = { buildkitd: 'src/daemon/main.ts', worker: 'src/daemon/worker-entry.ts' };
const built = await Promise.all([
  build({ ...options, entryPoints: { buildctl: 'src/cli/main.ts' }, plugins: [later] }),
  build({ ...options, entryPoints: daemon }),
]);
const inputs = built.flatMap(({ metafile }) => Object.keys(metafile.inputs));
const starter = readFileSync(join(root, 'scripts/starter.cjs'), 'utf8');
for (const name of PROGRAMS)
  writeFileSync(join(out, `${name}.cjs`), starter.replaceAll('__PROGRAM__', JSON.stringify(name)));
writeFileSync(join(out, 'package.json'), '{ "type": "commonjs" }\n');

rmSync(join(out, 'npm'), { recursive: true, force: true });
mkdirSync(join(out, 'npm', 'lib'), { recursive: true });
for (const name of [...PROGRAMS, 'worker'])
  copyFileSync(join(lib, `${name}.cjs`), join(out, 'npm', 'lib', `${name}.cjs`));
for (const name of PROGRAMS) writeFileSync(join(out, 'npm', `${name}.cjs`), launcher(name), { mode: 0o755 });
const { target, external, define } = shared;
const modules = await buildLibraries(root, join(out, 'npm'), { target, external, define });
writeFileSync(join(out, 'npm', 'THIRD-PARTY.txt'), licences([...inputs, ...modules]));

function commit() {
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], { cwd: root, stdio: 'pipe', encoding: 'utf8' }).trim();
  } catch {
    return ''; // not a checkout
  }
}

/** What the bundles contain of others, with their licences: of the package, and of single files in it. */
function licences(inputs) {
  const files = new Map();
  for (const file of new Set(inputs)) {
    const name = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1];
    if (name !== undefined) files.set(name, [...(files.get(name) ?? []), join(root, file)]);
  }
  return [...files].sort().map(licence).join('\n');
}

function licence([name, files]) {
  const dir = join(root, 'node_modules', name);
  const { version, license } = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'));
  const own = readdirSync(dir).filter((entry) => /^licen[cs]e/i.test(entry));
  const headers = files.flatMap((file) => /^(\/\/.*\n)+/.exec(readFileSync(file, 'utf8'))?.[0] ?? []);
  const texts = [
    ...own.map((entry) => readFileSync(join(dir, entry), 'utf8')),
    ...new Set(headers.filter((text) => text.includes('Copyright')).map((t) => t.replace(/^\/\/ ?/gm, ''))),
  ];
  return [`${name} ${version} (${license})`, ...texts.map((text) => text.trim())].join('\n\n').concat('\n');
}

/** Must parse on any Node: what an old one cannot parse lies in lib/. */
function launcher(name) {
  const node =
    name === 'buildkitd'
      ? `-S GLIBC_TUNABLES=${MALLOC_TUNABLES} node ${DAEMON_NODE_FLAGS.join(' ')}`
      : 'node';
  return `#!/usr/bin/env ${node}
'use strict';
if (parseInt(process.versions.node, 10) < ${oldest}) {
  process.stderr.write(
    '${name}: needs Node ${oldest} or newer, this is ' + process.version + ' (' + process.execPath + ')\\n'
  );
  process.exit(1);
}
require('./lib/${name}.cjs');
`;
}
