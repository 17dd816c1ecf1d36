import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, errno } from '../base/errors.ts';

/** What provenance says itself under these names. */
const OWN_KEYS: readonly string[] = ['buildConfig', 'builderPlatform', 'platform'];

/**
 * What the daemon's owner adds to provenance: the objects of all `*.json` files of a folder, later names above
 * earlier ones (FEATURES A50). A folder that is not there is empty. @throws BuildError
 */
export function loadProvenanceEnv(dir: string): Readonly<Record<string, unknown>> {
  const env: Record<string, unknown> = {};
  for (const name of jsonFiles(dir)) Object.assign(env, parseObject(join(dir, name), name));
  for (const key of OWN_KEYS)
    if (Object.hasOwn(env, key))
      throw new BuildError(
        `key ${JSON.stringify(key)} is builtin and not allowed to be modified in provenance config`,
      );
  return env;
}

function jsonFiles(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory() && entry.name.endsWith('.json'))
      .map(({ name }) => name)
      .sort();
  } catch (error) {
    if (errno(error) === 'ENOENT') return [];
    throw BuildError.wrap(error, `failed to read provenance config of ${dir}`);
  }
}

function parseObject(path: string, name: string): object {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (value === null) return {};
    if (typeof value === 'object' && !Array.isArray(value)) return value;
    throw new BuildError('it holds no JSON object');
  } catch (error) {
    throw BuildError.wrap(error, `failed to parse ${name}`);
  }
}
