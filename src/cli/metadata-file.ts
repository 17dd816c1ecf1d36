import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BuildError } from '../base/errors.ts';
import { goJsonIndent } from '../base/gojson.ts';
import { systemErrorText } from '../sys/errno.ts';

/** `--metadata-file`: the exporters' response, values that are base64 of a JSON object as that object (FEATURES L10). */
export function writeMetadataFile(path: string, response: Readonly<Record<string, string>>): void {
  const entries = Object.entries(response).map(([key, value]) => [key, decoded(value)] as const);
  writeAtomically(path, goJsonIndent(new Map(entries), '  '));
}

/** The file is whole or what it was before. Its folder must exist. */
export function writeAtomically(path: string, text: string): void {
  const temporary = join(dirname(path), `.tmp-${basename(path)}-${process.pid}`);
  try {
    writeFileSync(temporary, text, { mode: 0o666 });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new BuildError(`failed to write ${path}: ${systemErrorText(error)}`, { cause: error });
  }
}

function decoded(value: string): unknown {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(value)) return value;
  try {
    const parsed: unknown = JSON.parse(Buffer.from(value, 'base64').toString('utf8'));
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return value;
    return Object.keys(parsed).length > 0 ? parsed : value;
  } catch {
    return value; // not JSON: shown as it is
  }
}
