import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { BuildError, errno } from '../base/errors.ts';
import type { KeyPairPaths, RegistryConfig } from './config.ts';

/** Where systems keep what they trust; the first that is there counts. */
const SYSTEM_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/tls/cacert.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** The system's certificates, else the runtime's. */
async function systemCertificates(): Promise<readonly string[]> {
  for (const path of SYSTEM_BUNDLES) {
    try {
      return [await readFile(path, 'utf8')];
    } catch {
      // Another kind of system: the next place may be its own.
    }
  }
  return getCACertificates('default');
}

/**
 * What a host's connections trust and show (FEATURES F22). Reads the files of its configuration.
 * @param unchecked nobody's certificate is looked at: those of the system, which take their time, are left out
 */
export async function loadSecureContext(
  config: RegistryConfig | undefined,
  unchecked = false,
): Promise<SecureContext> {
  const files = await filesOf(config);
  const ca = await Promise.all(files.ca.map((path) => readText(path, `failed to read ${path}`)));
  const pairs = await Promise.all(
    files.pairs.map(async (pair) => {
      const problem = `failed to load keypair for ${pair.cert}`;
      return { cert: await readText(pair.cert, problem), key: await readText(pair.key, problem) };
    }),
  );
  try {
    return createSecureContext({
      ca: [...(unchecked ? [] : await systemCertificates()), ...ca],
      minVersion: 'TLSv1.2',
      ...(pairs.length ? { cert: pairs.map((p) => p.cert), key: pairs.map((p) => p.key) } : {}),
    });
  } catch (error) {
    throw BuildError.wrap(error, 'failed to set up TLS for registry');
  }
}

async function filesOf(config: RegistryConfig | undefined): Promise<{ ca: string[]; pairs: KeyPairPaths[] }> {
  const ca = [...(config?.ca ?? [])];
  const pairs = [...(config?.keyPairs ?? [])];
  for (const dir of config?.tlsConfigDirs ?? []) {
    for (const name of await listDir(dir)) {
      if (name.endsWith('.crt')) ca.push(join(dir, name));
      if (name.endsWith('.cert'))
        pairs.push({ cert: join(dir, name), key: join(dir, `${name.slice(0, -'.cert'.length)}.key`) });
    }
  }
  return { ca, pairs };
}

async function listDir(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir)).sort();
  } catch (error) {
    if (errno(error) === 'ENOENT' || errno(error) === 'EACCES') return [];
    throw BuildError.from(error);
  }
}

async function readText(path: string, problem: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw BuildError.wrap(error, problem);
  }
}
