// Looks into every image and cache that a build of a test has made, whatever the test is about.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { csvFields } from '../../src/client/csv.ts';
import { checkImage, type ImageLocation, Layout, RegistryClient } from '../../src/images/index.ts';

/** Hosts of registries that run now. */
export const liveRegistries = new Set<string>();

/** @param args of `buildctl build`, which has succeeded. @throws Error that names what is not right in which output */
export async function checkOutputs(args: readonly string[], cwd = process.cwd()): Promise<void> {
  for (const [option, text] of pairs(args)) {
    const fields = fieldsOf(text);
    if (option === '--output' && (fields.type === 'oci' || fields.type === 'docker') && fields.dest)
      await checkArchive(resolve(cwd, fields.dest));
    const isPushed = fields.type === 'image' && fields.push === 'true' && !fields['push-by-digest'];
    if (option === '--output' && isPushed) await checkRemote((fields.name ?? '').split(','));
    const isCache = fields.type === 'registry' && fields['image-manifest'] !== 'false';
    if (option === '--export-cache' && isCache && fields['ignore-error'] !== 'true')
      await checkRemote([fields.ref ?? '']);
  }
}

function pairs(args: readonly string[]): [string, string][] {
  return args.flatMap((arg, i): [string, string][] => {
    const [option = '', value = args[i + 1] ?? ''] = arg.startsWith('--') ? splitOnce(arg) : [arg];
    return [[option === '-o' ? '--output' : option, value]];
  });
}

function splitOnce(arg: string): [string] | [string, string] {
  const at = arg.indexOf('=');
  return at < 0 ? [arg] : [arg.slice(0, at), arg.slice(at + 1)];
}

function fieldsOf(text: string): Record<string, string> {
  if (!text.includes('=')) return {};
  return Object.fromEntries(csvFields(text).map((field) => splitOnce(field)));
}

async function checkArchive(path: string): Promise<void> {
  if (existsSync(join(path, 'index.json'))) return await checkLayout(path);
  if (!existsSync(path)) return;
  const dir = mkdtempSync(join(tmpdir(), 'bkt-checked-'));
  try {
    mkdirSync(dir, { recursive: true });
    execFileSync('tar', ['-xf', path, '-C', dir], { stdio: 'ignore' });
    await checkLayout(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function checkLayout(path: string): Promise<void> {
  const layout = new Layout(path);
  const digests = new Set(layout.images().map(({ digest }) => digest));
  for (const digest of digests) await check(layout.image(digest));
}

async function checkRemote(names: readonly string[]): Promise<void> {
  const live = names.filter((name) => liveRegistries.has(name.split('/')[0] ?? ''));
  if (live.length === 0) return;
  const client = new RegistryClient();
  try {
    for (const name of live) await check(client.image(name));
  } finally {
    await client.close();
  }
}

async function check(image: ImageLocation): Promise<void> {
  try {
    await checkImage(await image.resolve(), { read: (blob) => image.read(blob) });
  } catch (error) {
    throw new Error(`${image.name}: ${(error as Error).message}`, { cause: error });
  }
}
