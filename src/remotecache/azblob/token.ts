import { BuildError, Code } from '../../base/errors.ts';
import { isLocalHost } from '../../registry/config.ts';
import type { HttpClient } from '../../registry/http.ts';
import { ask, jsonFields, readToken } from '../cloud/ask.ts';
import { Expiring } from '../cloud/expiring.ts';

const RESOURCE = 'https://storage.azure.com/';
const AUTHORITY = 'https://login.microsoftonline.com/';
const AUTHORITY_TIMEOUT_MS = 10_000;
const AUTHORITY_ATTEMPTS = 3;
const MACHINE_URL = 'http://169.254.169.254';
/** On other machines nobody may answer at all. */
const MACHINE_TIMEOUT_MS = 1_000;
const MACHINE_ATTEMPTS = 2;
const APP_TIMEOUT_MS = 5_000;
/** Of a token that does not say when it ends. */
const DEFAULT_LIFE_SECONDS = 600;

export type Env = Readonly<Record<string, string | undefined>>;

interface Token {
  readonly text: string;
  /** Unix milliseconds. */
  readonly expiresAt: number;
}

/** Gives tokens for Azure's storage. Aborting stops the wait. */
export type TokenSource = Pick<Expiring<Token>, 'get' | 'expire'>;

interface Search {
  readonly http: Pick<HttpClient, 'send'>;
  readonly env: Env;
  readonly signal: AbortSignal;
}

/**
 * Tokens that Azure's tools would find on this machine, in their order: a service principal of the environment, a
 * workload identity, a managed identity (FEATURES K19). What is set up counts, also when it then fails.
 */
export function tokenSource(services: Omit<Search, 'signal'>): TokenSource {
  return new Expiring((signal) => find({ ...services, signal }));
}

async function find(search: Search): Promise<Token> {
  const { AZURE_TENANT_ID: tenant, AZURE_CLIENT_ID: client, ...env } = search.env;
  if (tenant && client && env.AZURE_CLIENT_SECRET)
    return await ofAuthority(tenant, { client_id: client, client_secret: env.AZURE_CLIENT_SECRET }, search);
  if (tenant && client && env.AZURE_CLIENT_CERTIFICATE_PATH)
    throw new BuildError('AZURE_CLIENT_CERTIFICATE_PATH is not supported by azblob cache');
  if (tenant && client && env.AZURE_FEDERATED_TOKEN_FILE) {
    const assertion = {
      client_id: client,
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: await readToken(env.AZURE_FEDERATED_TOKEN_FILE, 'AZURE_FEDERATED_TOKEN_FILE'),
    };
    return await ofAuthority(tenant, assertion, search);
  }
  try {
    return await ofMachine(client, search);
  } catch (error) {
    search.signal.throwIfAborted();
    throw new BuildError(
      `no credentials for azblob cache: there is no secret_access_key, no service principal or workload identity in the environment, and none of the machine: ${BuildError.from(error).message}`,
      {
        code: Code.unauthenticated,
        cause: error,
        hint: 'Set secret_access_key, or give the daemon AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (or AZURE_FEDERATED_TOKEN_FILE), or a managed identity.',
      },
    );
  }
}

/** Of Microsoft Entra ID. */
async function ofAuthority(
  tenant: string,
  proof: Readonly<Record<string, string>>,
  { http, env, signal }: Search,
): Promise<Token> {
  const from = 'token of Microsoft Entra ID';
  const url = new URL(
    `${encodeURIComponent(tenant)}/oauth2/v2.0/token`,
    withSlash(env.AZURE_AUTHORITY_HOST || AUTHORITY),
  );
  if (!isSafe(url)) throw new BuildError(`${from}: AZURE_AUTHORITY_HOST is not https`);
  const form = { ...proof, grant_type: 'client_credentials', scope: `${RESOURCE}.default` };
  const limits = { timeoutMs: AUTHORITY_TIMEOUT_MS, attempts: AUTHORITY_ATTEMPTS };
  return tokenIn(await ask(http, { from, method: 'POST', url, form, ...limits }, signal), from);
}

/** Of the managed identity of an app or a virtual machine. */
async function ofMachine(client: string | undefined, { http, env, signal }: Search): Promise<Token> {
  const from = 'managed identity';
  const { IDENTITY_ENDPOINT: endpoint, IDENTITY_HEADER: secret } = env;
  const app = endpoint && secret ? { endpoint, secret } : undefined;
  const machine = new URL(
    '/metadata/identity/oauth2/token',
    env.AZURE_POD_IDENTITY_AUTHORITY_HOST || MACHINE_URL,
  );
  const url = app ? new URL(app.endpoint) : machine;
  url.searchParams.set('api-version', app ? '2019-08-01' : '2018-02-01');
  url.searchParams.set('resource', RESOURCE);
  if (client) url.searchParams.set('client_id', client);
  const headers: Record<string, string> = app ? { 'x-identity-header': app.secret } : { metadata: 'true' };
  const limits = app
    ? { timeoutMs: APP_TIMEOUT_MS, attempts: AUTHORITY_ATTEMPTS }
    : { timeoutMs: MACHINE_TIMEOUT_MS, attempts: MACHINE_ATTEMPTS };
  return tokenIn(await ask(http, { from, url, headers, ...limits }, signal), from);
}

function tokenIn(answer: string, from: string): Token {
  const { access_token: text, expires_on: on, expires_in: within } = jsonFields(answer, from);
  if (typeof text !== 'string' || text === '') throw new BuildError(`${from}: no token in the answer`);
  const until = Number(on) * 1000;
  const life = Number(within) > 0 ? Number(within) : DEFAULT_LIFE_SECONDS;
  return { text, expiresAt: until > 0 ? until : Date.now() + life * 1000 };
}

/** Tokens go over TLS, or to this machine. */
export function isSafe({ protocol, hostname }: URL): boolean {
  return protocol === 'https:' || isLocalHost(hostname);
}

function withSlash(text: string): string {
  return text.endsWith('/') ? text : `${text}/`;
}
