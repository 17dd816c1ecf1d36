import { readFile, stat } from 'node:fs/promises';
import { BuildError, Code, invalidArgument } from '../../base/errors.ts';
import { SecretsDefinition } from '../../pb/secrets.ts';
import { type RegisteredService, service } from '../../rpc/server.ts';
import { systemErrorText } from '../../sys/errno.ts';

const MAX_SECRET_BYTES = 500 << 10;

export interface SecretSource {
  readonly id: string;
  readonly file?: string;
  /** Name of an environment variable. */
  readonly env?: string;
  /** The secret itself, or what gives it each time that the daemon asks. */
  readonly value?: Uint8Array | (() => Promise<Uint8Array>);
}

/**
 * Lends secrets (FEATURES C19). One without file and env is the variable of its own name when that is set,
 * else the file of that name.
 * @throws BuildError for a repeated or missing id, or a missing or too large file
 */
export async function secretsService(
  sources: readonly SecretSource[],
  environment: Readonly<Record<string, string | undefined>>,
): Promise<RegisteredService> {
  const byId = new Map<string, SecretSource>();
  for (const source of sources) {
    if (source.id === '') throw invalidArgument('secret missing ID');
    byId.set(source.id, await resolve(source, environment));
  }
  return service(SecretsDefinition, {
    getSecret: async ({ ID }) => {
      const source = byId.get(ID);
      if (!source) throw new BuildError(`secret ${ID} not found`, { code: Code.notFound });
      const data = await read(source, environment);
      checkSize(ID, data.byteLength);
      return { data };
    },
  });
}

async function read(
  { value, env, file }: SecretSource,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Uint8Array> {
  if (value !== undefined) return typeof value === 'function' ? await value() : value;
  return env === undefined ? await readFile(file as string) : Buffer.from(environment[env] ?? '');
}

async function resolve(
  source: SecretSource,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<SecretSource> {
  if (source.value !== undefined) {
    if (typeof source.value !== 'function') checkSize(source.id, source.value.byteLength);
    return source;
  }
  if (source.env === undefined && source.file === undefined && environment[source.id] !== undefined)
    return { id: source.id, env: source.id };
  if (source.env !== undefined) return source;
  const file = source.file ?? source.id;
  try {
    checkSize(source.id, (await stat(file)).size);
  } catch (error) {
    if (error instanceof BuildError) throw error;
    throw new BuildError(`failed to stat ${file}: ${systemErrorText(error)}`, { cause: error });
  }
  return { id: source.id, file };
}

function checkSize(id: string, bytes: number): void {
  if (bytes > MAX_SECRET_BYTES)
    throw invalidArgument(`invalid secret size ${bytes} of ${id}: the limit is ${MAX_SECRET_BYTES} bytes`);
}
