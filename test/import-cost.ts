// Processor time of importing the modules for other programs.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const MODULES = ['client', 'dockerfile', 'frontend', 'llb', 'oci', 'progress'] as const;

/** Says on its standard error what the process has used, as it ends. */
const TELL =
  "process.on('exit', () => { const { user, system } = process.cpuUsage(); process.stderr.write(String((user + system) / 1000)); });";

/**
 * Median of the processor time of programs that import one module each, and of an `empty` one, in ms. The programs
 * take turns, so that they meet the same machine.
 */
export function importCost(dir: string, npm: string, runs: number): Record<string, number> {
  const names = ['empty', ...MODULES];
  const times = new Map(names.map((name) => [name, [] as number[]]));
  writeFileSync(join(dir, 'tell.cjs'), TELL);
  for (const name of names)
    writeFileSync(join(dir, `${name}.mjs`), name === 'empty' ? '' : `import '${join(npm, name)}.mjs';\n`);
  for (let run = 0; run < runs; run++)
    for (const name of names) {
      const { stderr } = spawnSync(process.execPath, [
        '--require',
        join(dir, 'tell.cjs'),
        join(dir, `${name}.mjs`),
      ]);
      times.get(name)!.push(Number(stderr.toString()));
    }
  return Object.fromEntries([...times].map(([name, all]) => [name, all.sort((a, b) => a - b)[runs >> 1]!]));
}
