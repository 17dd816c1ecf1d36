import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildError, errno } from '../../base/errors.ts';

/** Where credentials come from. */
export interface CredentialSource {
  /** Credentials for a registry host. */
  get(host: string): Promise<AuthConfig>;
  /** What was given for the host was refused. */
  forget?(host: string): void;
  /** Folder where random bytes by which daemons know this user are kept; absent: they last for this process. */
  readonly dir?: string;
}

/** What the docker configuration knows of one registry; '' for what it does not. */
export interface AuthConfig {
  readonly username: string;
  readonly password: string;
  readonly identityToken: string;
  readonly registryToken: string;
}

export const NO_CREDENTIALS: AuthConfig = {
  username: '',
  password: '',
  identityToken: '',
  registryToken: '',
};
const HUB_HOST = 'registry-1.docker.io';
const HUB_KEY = 'https://index.docker.io/v1/';
/** Helpers may be slow, and may give tokens that live two minutes: a build that needs one later asks again. */
const CACHE_MS = 30_000;
/** User name by which helpers mark a secret as an identity token. */
const TOKEN_USER = '<token>';
const NOT_FOUND_TEXT = 'credentials not found in native keychain';

interface ConfigFile {
  readonly auths?: Readonly<Record<string, AuthEntry>>;
  readonly credsStore?: string;
  readonly credHelpers?: Readonly<Record<string, string>>;
}
interface AuthEntry {
  readonly auth?: string;
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly registrytoken?: string;
}

/** Registry credentials as `docker login` keeps them: config.json and its credential helpers (FEATURES C15-C17). */
export class DockerConfig implements CredentialSource {
  readonly dir: string;
  readonly #env: Readonly<Record<string, string | undefined>>;
  readonly #cache = new Map<string, { readonly at: number; readonly value: Promise<AuthConfig> }>();

  /** @param env environment of the helpers */
  constructor(dir: string, env: Readonly<Record<string, string | undefined>>) {
    this.dir = dir;
    this.#env = env;
  }

  /**
   * Credentials for a registry host: those of the file are of now, those of a helper at most half a minute old.
   * @throws BuildError for an unreadable file or a failing helper
   */
  async get(host: string): Promise<AuthConfig> {
    const key = keyOf(host);
    const config = await this.#read();
    const helper = config.credHelpers?.[hostOf(key)] ?? config.credHelpers?.[key] ?? config.credsStore;
    if (!helper) return fromFile(config, key);
    const known = this.#cache.get(key);
    if (known && Date.now() - known.at < CACHE_MS) return await known.value;
    const value = this.#ask(helper, key);
    this.#cache.set(key, { at: Date.now(), value });
    value.catch(() => this.#cache.delete(key));
    return await value;
  }

  /** What is known for the host was refused: its helper is asked the next time. */
  forget(host: string): void {
    this.#cache.delete(keyOf(host));
  }

  async #read(): Promise<ConfigFile> {
    const path = join(this.dir, 'config.json');
    try {
      return JSON.parse(await readFile(path, 'utf8')) as ConfigFile;
    } catch (error) {
      const code = errno(error);
      if (code === 'ENOENT' || code === 'ENOTDIR') return {};
      throw new BuildError(`${path}: ${(error as Error).message}`, { cause: error });
    }
  }

  async #ask(helper: string, key: string): Promise<AuthConfig> {
    const program = `docker-credential-${helper}`;
    const { code, stdout, stderr } = await run(program, ['get'], key, this.#env);
    if (code !== 0) {
      const text = stdout.trim() || stderr.trim();
      if (text === NOT_FOUND_TEXT) return NO_CREDENTIALS;
      throw new BuildError(`error getting credentials - err: exit status ${code}, out: \`${text}\``);
    }
    const { Username = '', Secret = '' } = JSON.parse(stdout) as { Username?: string; Secret?: string };
    return Username === TOKEN_USER
      ? { ...NO_CREDENTIALS, identityToken: Secret }
      : { ...NO_CREDENTIALS, username: Username, password: Secret };
  }
}

function keyOf(host: string): string {
  return host === HUB_HOST ? HUB_KEY : host;
}

function fromFile({ auths = {} }: ConfigFile, key: string): AuthConfig {
  const entry = auths[key] ?? Object.entries(auths).find(([name]) => hostOf(name) === hostOf(key))?.[1];
  return entry ? decodeEntry(entry) : NO_CREDENTIALS;
}

function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, '').split('/')[0] ?? key;
}

function decodeEntry(entry: AuthEntry): AuthConfig {
  let { username = '', password = '' } = entry;
  if (entry.auth) {
    const text = Buffer.from(entry.auth, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    if (colon < 0) throw new BuildError('invalid auth configuration file');
    username = text.slice(0, colon);
    password = text.slice(colon + 1).replace(/\0+$/, '');
  }
  return {
    username,
    password,
    identityToken: entry.identitytoken ?? '',
    registryToken: entry.registrytoken ?? '',
  };
}

function run(
  program: string,
  args: readonly string[],
  input: string,
  env: Readonly<Record<string, string | undefined>>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    child.once('error', (error) =>
      reject(new BuildError(`error getting credentials - err: ${error.message}`, { cause: error })),
    );
    const read = async (stream: AsyncIterable<Buffer>): Promise<string> => {
      const parts: Buffer[] = [];
      for await (const part of stream) parts.push(part);
      return Buffer.concat(parts).toString('utf8');
    };
    const output = Promise.all([read(child.stdout), read(child.stderr)]);
    child.once('close', (code) => {
      output.then(([stdout, stderr]) => resolve({ code: code ?? -1, stdout, stderr }), reject);
    });
    child.stdin.on('error', () => {}); // a helper may exit without reading
    child.stdin.end(input);
  });
}
