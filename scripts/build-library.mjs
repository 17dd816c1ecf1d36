// Makes the modules that other programs import: one ES module for each, chunks/ with what several of them need, and
// their declarations. package.json says which: every entry of `exports` with types, named like its source file.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { later } from './later-plugin.mjs';

const TYPES = './dist/npm/types/';

/** Entry points below src/, by the name they are imported under. */
function entryPoints(root) {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const typed = Object.entries(exports).filter(([, { types }]) => types?.startsWith(TYPES));
  return Object.fromEntries(
    typed.map(([name, { types }]) => [
      name.replace('./', ''),
      types.replace(TYPES, '').replace(/\.d\.ts$/, '.ts'),
    ]),
  );
}

/** Writes `<name>.mjs`, `chunks/` and `types/` into `out`; gives what the modules were made of. */
export async function buildLibraries(root, out, options) {
  const entries = entryPoints(root);
  const { metafile } = await build({
    ...options,
    absWorkingDir: root,
    bundle: true,
    splitting: true, // a class is the same one in every module
    platform: 'node',
    format: 'esm',
    outExtension: { '.js': '.mjs' }, // a checkout's dist/ is CommonJS
    chunkNames: 'chunks/[hash]',
    legalComments: 'none',
    logLevel: 'warning',
    metafile: true,
    plugins: [later],
    entryPoints: Object.fromEntries(Object.entries(entries).map(([name, file]) => [name, `src/${file}`])),
    outdir: out,
  });
  declarations(root, join(out, 'types'), Object.values(entries));
  return Object.keys(metafile.inputs);
}

/** Only files that the entry points reach, so that nothing private is promised. */
function declarations(root, out, entries) {
  const all = mkdtempSync(join(root, 'dist', 'declarations-'));
  try {
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const config = {
      extends: '../../tsconfig.json',
      compilerOptions: {
        noEmit: false,
        declaration: true,
        emitDeclarationOnly: true,
        stripInternal: true,
        rootDir: '../../src',
        outDir: '.',
      },
      include: [],
      files: entries.map((file) => `../../src/${file}`),
    };
    writeFileSync(join(all, 'tsconfig.json'), JSON.stringify(config));
    execFileSync(process.execPath, [tsc, '-p', all], { cwd: root, stdio: 'inherit' });
    const files = new Set(entries.map((file) => file.replace(/\.ts$/, '.d.ts')));
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
