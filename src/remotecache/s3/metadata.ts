import { BuildError } from '../../base/errors.ts';
import { isLocalHost } from '../../registry/config.ts';
import { ask, jsonFields, readToken } from '../cloud/ask.ts';
import type { Search } from './credentials.ts';
import type { AwsCredentials } from './sigv4.ts';

const CONTAINER_HOST = 'http://169.254.170.2';
/** Plain HTTP is for services of this machine. */
const CONTAINER_HOSTS = new Set(['169.254.170.2', '169.254.170.23', '[fd00:ec2::23]']);
const CONTAINER_TIMEOUT_MS = 5_000;
const CONTAINER_ATTEMPTS = 3;

const MACHINE_URL = 'http://169.254.169.254';
/** On other machines nobody may answer at all. */
const MACHINE_TIMEOUT_MS = 1_000;
const MACHINE_ATTEMPTS = 2;
const TOKEN_SECONDS = 300;
const ROLES = '/latest/meta-data/iam/security-credentials/';

/** Of the service that ECS and EKS give their containers; undefined outside of such. */
export async function containerCredentials({
  http,
  env,
  signal,
}: Search): Promise<AwsCredentials | undefined> {
  const relative = env.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI;
  const full = env.AWS_CONTAINER_CREDENTIALS_FULL_URI;
  if (!relative && !full) return undefined;
  const text = relative ? `${CONTAINER_HOST}${relative}` : full!;
  const from = 'credentials of the container';
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !isTrusted(url))
    throw new BuildError(`${from}: AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor of this machine`);
  const file = env.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE;
  const token = file
    ? await readToken(file, 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE')
    : env.AWS_CONTAINER_AUTHORIZATION_TOKEN;
  const headers: Record<string, string> = token ? { authorization: token } : {};
  const limits = { timeoutMs: CONTAINER_TIMEOUT_MS, attempts: CONTAINER_ATTEMPTS };
  return credentialsIn(await ask(http, { from, url, headers, ...limits }, signal), from);
}

function isTrusted({ protocol, hostname }: URL): boolean {
  if (protocol === 'https:') return true;
  return protocol === 'http:' && (isLocalHost(hostname) || CONTAINER_HOSTS.has(hostname));
}

/** Of the role of an EC2 machine, version 2 of the service. */
export async function machineCredentials({ http, env, signal }: Search): Promise<AwsCredentials> {
  const from = 'EC2 instance metadata';
  if (env.AWS_EC2_METADATA_DISABLED?.toLowerCase() === 'true')
    throw new BuildError(`${from}: switched off by AWS_EC2_METADATA_DISABLED`);
  const base = env.AWS_EC2_METADATA_SERVICE_ENDPOINT || MACHINE_URL;
  const limits = { timeoutMs: MACHINE_TIMEOUT_MS, attempts: MACHINE_ATTEMPTS };
  const ttl = { 'x-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_SECONDS) };
  const url = new URL('/latest/api/token', base);
  const token = await ask(http, { from, method: 'PUT', url, headers: ttl, ...limits }, signal);
  const headers = { 'x-aws-ec2-metadata-token': token };
  const roles = await ask(http, { from, url: new URL(ROLES, base), headers, ...limits }, signal);
  const [role = ''] = roles.split('\n');
  if (role.trim() === '') throw new BuildError(`${from}: the machine has no role`);
  const own = new URL(`${ROLES}${encodeURIComponent(role.trim())}`, base);
  return credentialsIn(await ask(http, { from, url: own, headers, ...limits }, signal), from);
}

/** Credentials as JSON: of the services of machines and of programs, which call the token of a session differently. */
export function credentialsIn(text: string, from: string): AwsCredentials {
  const fields = jsonFields(text, from);
  const of = (key: string): string => (typeof fields[key] === 'string' ? fields[key] : '');
  if (of('Code') !== '' && of('Code') !== 'Success')
    throw new BuildError(`${from}: ${of('Code')}: ${of('Message')}`);
  const expiresAt = Date.parse(of('Expiration'));
  if (of('AccessKeyId') === '' || of('SecretAccessKey') === '')
    throw new BuildError(`${from}: no credentials in the answer`);
  return {
    accessKeyId: of('AccessKeyId'),
    secretAccessKey: of('SecretAccessKey'),
    sessionToken: of('Token') || of('SessionToken'),
    ...(Number.isNaN(expiresAt) ? {} : { expiresAt }),
  };
}
