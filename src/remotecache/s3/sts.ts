import { BuildError } from '../../base/errors.ts';
import { ask, readToken } from '../cloud/ask.ts';
import { xmlText } from '../cloud/errors.ts';
import { awsHost } from './address.ts';
import type { Search } from './credentials.ts';
import { type AwsCredentials, sha256Hex, signV4 } from './sigv4.ts';

const TIMEOUT_MS = 10_000;
const ATTEMPTS = 3;
const VERSION = '2011-06-15';

export interface Role {
  readonly arn: string;
  /** Name of the session; '' for one of our own. */
  readonly session: string;
  readonly externalId?: string;
}

/** Takes on a role with the token of an identity provider, in a file that is renewed. */
export async function assumeRoleWithToken(
  role: Role,
  tokenFile: string,
  search: Search,
): Promise<AwsCredentials> {
  if (role.arn === '') throw new BuildError('a web identity token needs a role: AWS_ROLE_ARN is not set');
  const token = await readToken(tokenFile, 'web identity token');
  return await take('AssumeRoleWithWebIdentity', role, { WebIdentityToken: token }, undefined, search);
}

/** Takes on a role with other credentials. */
export async function assumeRole(role: Role, own: AwsCredentials, search: Search): Promise<AwsCredentials> {
  const more: Record<string, string> = role.externalId ? { ExternalId: role.externalId } : {};
  return await take('AssumeRole', role, more, own, search);
}

async function take(
  action: string,
  role: Role,
  more: Readonly<Record<string, string>>,
  own: AwsCredentials | undefined,
  { http, env, region, signal }: Search,
): Promise<AwsCredentials> {
  const form = {
    Action: action,
    Version: VERSION,
    RoleArn: role.arn,
    RoleSessionName: role.session || `buildkit-${Date.now()}`,
    ...more,
  };
  const endpoint = env.AWS_ENDPOINT_URL_STS || env.AWS_ENDPOINT_URL || `https://${awsHost('sts', region)}`;
  const url = new URL('/', endpoint);
  const request = {
    method: 'POST',
    url,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    payloadHash: sha256Hex(new URLSearchParams(form).toString()),
  };
  const headers = own ? signV4(request, own, { region, service: 'sts', at: new Date() }) : {};
  const from = `${action} of ${role.arn}`;
  const limits = { timeoutMs: TIMEOUT_MS, attempts: ATTEMPTS };
  const xml = await ask(http, { from, method: 'POST', url, headers, form, ...limits }, signal);
  const expiresAt = Date.parse(xmlText(xml, 'Expiration'));
  const credentials = {
    accessKeyId: xmlText(xml, 'AccessKeyId'),
    secretAccessKey: xmlText(xml, 'SecretAccessKey'),
    sessionToken: xmlText(xml, 'SessionToken'),
  };
  if (credentials.accessKeyId === '' || credentials.secretAccessKey === '' || Number.isNaN(expiresAt))
    throw new BuildError(`${from}: no credentials in the answer`);
  return { ...credentials, expiresAt };
}
