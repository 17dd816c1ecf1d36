import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createLogger } from '../../base/log.ts';
import { DeviceRegistry, type DeviceRegistryOptions } from './registry.ts';

/** Directories `1` and `2` of specifications and a registry that reads them, for tests. */
export class TempSpecs implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'cdi-'));
  /** What was logged. */
  readonly log: string[] = [];
  readonly registry: DeviceRegistry;

  /** @param files below the first directory, or elsewhere by `../` */
  constructor(files: Readonly<Record<string, string>>, options: Partial<DeviceRegistryOptions> = {}) {
    this.write(files);
    this.registry = new DeviceRegistry({
      specDirs: [join(this.dir, '1'), join(this.dir, '2')],
      autoAllowed: [],
      setups: [],
      log: createLogger({ level: 'warn', format: 'text', write: (line) => this.log.push(line) }),
      ...options,
    });
  }

  write(files: Readonly<Record<string, string>>): void {
    for (const [name, text] of Object.entries(files)) {
      const path = join(this.dir, '1', name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true });
  }
}
