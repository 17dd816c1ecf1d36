// What the modules for other programs cost: their size, and the processor time of importing them beside that of an
// empty program. Needs dist/ (npm run build).
//
//     node scripts/sdk-cost.ts [RUNS]
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { importCost, MODULES } from '../test/import-cost.ts';

const NPM = join(import.meta.dirname, '../dist/npm');
const runs = Number(process.argv[2] ?? 30);

/** Bytes of a module and of all that it loads at once, or ever. */
function size(name: string, imports: RegExp): number {
  const files = new Set([`${name}.mjs`]);
  let bytes = 0;
  for (const file of files) {
    bytes += statSync(join(NPM, file)).size;
    const text = readFileSync(join(NPM, file), 'utf8');
    for (const [, path] of text.matchAll(imports)) files.add(join(dirname(file), path!));
  }
  return bytes;
}

const kB = (bytes: number): string => `${(bytes / 1000).toFixed(0)} kB`;
const dir = mkdtempSync(join(tmpdir(), 'sdk-cost-'));
try {
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }\n');
  const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', dir];
  const packed = execFileSync('npm', pack, { cwd: join(NPM, '../..'), stdio: ['ignore', 'pipe', 'ignore'] });
  const [{ size: packedSize, unpackedSize }] = JSON.parse(packed.toString());
  console.log(`package: ${kB(packedSize)} packed, ${kB(unpackedSize)} unpacked`);
  const cost = importCost(dir, NPM, runs);
  console.log(`empty program: ${cost.empty!.toFixed(1)} ms`);
  for (const name of MODULES) {
    const atOnce = size(name, /(?:\bfrom |^import )['"](\.[^'"]+)['"]/gm);
    const all = size(name, /(?:\bfrom |^import |\bimport\()['"](\.[^'"]+)['"]/gm);
    const ratio = (cost[name]! / cost.empty!).toFixed(2);
    console.log(
      `${name}: import ${cost[name]!.toFixed(1)} ms (${ratio} of empty), ${kB(atOnce)} at once, ${kB(all)} in all`,
    );
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
