import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildError, errno } from '../../base/errors.ts';
import type { Env } from './credentials.ts';

/** Settings of a profile by their names in lower case. */
export type Profile = ReadonlyMap<string, string>;

export interface Profiles {
  readonly byName: ReadonlyMap<string, Profile>;
  readonly chosen: string;
  /** Somebody asked for the chosen one: it has to be there. */
  readonly isAsked: boolean;
  /** Where was looked. */
  readonly files: readonly string[];
}

/** Profiles of AWS's shared files; what the file of credentials says wins. @throws BuildError for one that cannot be read */
export async function loadProfiles(env: Env): Promise<Profiles> {
  const home = env.HOME ?? '/';
  const files = [
    env.AWS_CONFIG_FILE || join(home, '.aws/config'),
    env.AWS_SHARED_CREDENTIALS_FILE || join(home, '.aws/credentials'),
  ];
  const byName = new Map<string, Map<string, string>>();
  for (const [i, path] of files.entries())
    for (const [section, settings] of parseIni(await read(path))) {
      const name = i === 0 ? /^profile\s+(.+)$/.exec(section)?.[1] : section;
      if (name === undefined && section !== 'default') continue;
      const known = byName.get(name ?? section) ?? new Map<string, string>();
      for (const [key, value] of settings) known.set(key, value);
      byName.set(name ?? section, known);
    }
  const asked = env.AWS_PROFILE || env.AWS_DEFAULT_PROFILE || '';
  return { byName, chosen: asked || 'default', isAsked: asked !== '', files };
}

/** '' when it is not there. */
async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errno(error) ?? '')) return '';
    throw BuildError.wrap(error, 'failed to read AWS profiles');
  }
}

/** Sections in their order. Lines that go on from the one before are settings of something else. */
function parseIni(text: string): [section: string, settings: [string, string][]][] {
  const sections: [string, [string, string][]][] = [];
  for (const line of text.split(/\r?\n/)) {
    const section = /^\[\s*(?:(.*?))\s*\]/.exec(line)?.[1];
    if (section !== undefined) sections.push([section.replace(/"/g, ''), []]);
    const [, key, value = ''] = /^([^\s#;[=][^=]*?)\s*=\s*(.*?)(?:\s+[#;].*)?\s*$/.exec(line) ?? [];
    if (key !== undefined) sections.at(-1)?.[1].push([key.toLowerCase(), value]);
  }
  return sections;
}
