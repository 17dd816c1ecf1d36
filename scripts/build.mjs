// Bundles the executables into dist/: plain CommonJS files that start without a loader.
// koffi stays outside (a native library finds its own files); in dist/npm it is a dependency.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const out = join(root, 'dist');
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const pkg = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const shared = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  external: ['koffi'],
  legalComments: 'none',
  logLevel: 'warning',
  logOverride: { 'empty-import-meta': 'silent' }, // used only when run from sources
  define: {
    __VERSION__: JSON.stringify(`v${pkg.version}`),
    __REVISION__: JSON.stringify(process.env.REVISION ?? ''),
  },
  minifySyntax: true,
  minifyWhitespace: true,
};
await build({
  ...shared,
  entryPoints: {
    buildctl: 'src/cli/main.ts',
    buildkitd: 'src/daemon/main.ts',
    worker: 'src/daemon/worker-entry.ts',
  },
  outdir: out,
  outExtension: { '.js': '.cjs' },
});
writeFileSync(join(out, 'package.json'), '{ "type": "commonjs" }\n');
