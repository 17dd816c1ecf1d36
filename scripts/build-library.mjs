// Makes the modules that other programs import: one ES module each, and its declarations.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';

/** Entry points below src/, by the name they are imported under: the `exports` of package.json. */
const MODULES = { dockerfile: 'dockerfile/index.ts' };

/** Writes `<name>.mjs` and `types/` into `out`; gives what the modules were made of. */
export async function buildLibrary(root, out, target) {
  const { metafile } = await build({
    absWorkingDir: root,
    bundle: true,
    platform: 'node',
    target,
    format: 'esm',
    outExtension: { '.js': '.mjs' }, // a checkout's dist/ is CommonJS
    legalComments: 'none',
    logLevel: 'warning',
    metafile: true,
    entryPoints: Object.fromEntries(Object.entries(MODULES).map(([name, file]) => [name, `src/${file}`])),
    outdir: out,
  });
  declarations(root, join(out, 'types'));
  return Object.keys(metafile.inputs);
}

/** Only files that the entry points reach, so that nothing private is promised. */
function declarations(root, out) {
  const all = mkdtempSync(join(root, 'dist', 'declarations-'));
  try {
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    execFileSync(process.execPath, [tsc, '-p', 'tsconfig.library.json', '--outDir', all], {
      cwd: root,
      stdio: 'inherit',
    });
    const files = new Set(Object.values(MODULES).map((file) => file.replace(/\.ts$/, '.d.ts')));
    for (const file of files) {
      const text = readFileSync(join(all, file), 'utf8');
      for (const [, path] of text.matchAll(/\bfrom '(\.[^']+)\.ts'/g))
        files.add(`${join(dirname(file), path)}.d.ts`);
      mkdirSync(dirname(join(out, file)), { recursive: true });
      writeFileSync(join(out, file), text.replace(/(\bfrom '\.[^']+)\.ts'/g, "$1.js'"));
    }
  } finally {
    rmSync(all, { recursive: true, force: true });
  }
}
