import { BuildError, Code } from '../../base/errors.ts';
import type { HttpClient } from '../../registry/http.ts';
import { Expiring } from '../cloud/expiring.ts';
import { containerCredentials, machineCredentials } from './metadata.ts';
import { programCredentials } from './process.ts';
import { loadProfiles, type Profile, type Profiles } from './profiles.ts';
import type { AwsCredentials } from './sigv4.ts';
import { assumeRole, assumeRoleWithToken } from './sts.ts';

/** Roles that lead to roles, in one profile. */
const MAX_ROLES = 5;

export type Env = Readonly<Record<string, string | undefined>>;

export interface CredentialSource {
  /** Aborting stops the wait. @throws BuildError when there are none */
  get(signal: AbortSignal): Promise<AwsCredentials>;
  /** Forgets those that the server calls expired; false when there are no others. */
  expire(): boolean;
}

export interface CredentialServices {
  readonly http: Pick<HttpClient, 'send'>;
  readonly env: Env;
}

/** What a place may say of its own credentials. */
export interface CredentialHints {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly region: string;
}

/** The given credentials, or those that AWS's tools would find on this machine, in their order (FEATURES K17). */
export function credentialsFor(given: CredentialHints, services: CredentialServices): CredentialSource {
  const { accessKeyId, secretAccessKey, sessionToken, region } = given;
  if (accessKeyId !== '' && secretAccessKey !== '')
    return { get: async () => ({ accessKeyId, secretAccessKey, sessionToken }), expire: () => false };
  return new Expiring((signal) => find({ ...services, region, signal }));
}

export interface Search extends CredentialServices {
  readonly region: string;
  readonly signal: AbortSignal;
}

/** What is set up counts, also when it then fails; only the machine's own service is asked on suspicion. */
async function find(search: Search): Promise<AwsCredentials> {
  const { env } = search;
  const own = keysOf(env);
  if (own) return own;
  if (env.AWS_WEB_IDENTITY_TOKEN_FILE) {
    const role = { arn: env.AWS_ROLE_ARN ?? '', session: env.AWS_ROLE_SESSION_NAME ?? '' };
    return await assumeRoleWithToken(role, env.AWS_WEB_IDENTITY_TOKEN_FILE, search);
  }
  const profiles = await loadProfiles(env);
  const ofProfile = await fromProfile(profiles.chosen, profiles, search, []);
  if (ofProfile) return ofProfile;
  const ofContainer = await containerCredentials(search);
  if (ofContainer) return ofContainer;
  try {
    return await machineCredentials(search);
  } catch (error) {
    search.signal.throwIfAborted();
    throw new BuildError(
      `no credentials for s3 cache: there are none in its attributes, in the environment, in profile ${JSON.stringify(profiles.chosen)} of ${profiles.files.join(' and ')}, or from the machine: ${BuildError.from(error).message}`,
      {
        code: Code.unauthenticated,
        cause: error,
        hint: 'Set access_key_id and secret_access_key, or give the daemon AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role.',
      },
    );
  }
}

/** Keys in the environment. */
function keysOf(env: Env): AwsCredentials | undefined {
  const accessKeyId = env.AWS_ACCESS_KEY_ID || env.AWS_ACCESS_KEY || '';
  const secretAccessKey = env.AWS_SECRET_ACCESS_KEY || env.AWS_SECRET_KEY || '';
  if (accessKeyId === '' || secretAccessKey === '') return undefined;
  return { accessKeyId, secretAccessKey, sessionToken: env.AWS_SESSION_TOKEN ?? '' };
}

/** undefined when the profile says nothing of credentials. */
async function fromProfile(
  name: string,
  profiles: Profiles,
  search: Search,
  seen: readonly string[],
): Promise<AwsCredentials | undefined> {
  const profile = profiles.byName.get(name);
  if (!profile) {
    if (profiles.isAsked || seen.length > 0)
      throw new BuildError(`no profile ${JSON.stringify(name)} in ${profiles.files.join(' or ')}`);
    return undefined;
  }
  const arn = profile.get('role_arn');
  const keys = keysOfProfile(profile);
  if (arn !== undefined && !(keys && seen.includes(name))) {
    const role = { arn, session: profile.get('role_session_name') ?? '' };
    const file = profile.get('web_identity_token_file');
    if (file !== undefined && !profile.has('source_profile'))
      return await assumeRoleWithToken(role, file, search);
    if (seen.includes(name) || seen.length >= MAX_ROLES)
      throw new BuildError(
        `profile ${JSON.stringify(name)}: roles lead round: ${[...seen, name].join(', ')}`,
      );
    const source = await sourceOf(name, profile, profiles, search, [...seen, name]);
    return await assumeRole({ ...role, externalId: profile.get('external_id') ?? '' }, source, search);
  }
  if (keys) return keys;
  const command = profile.get('credential_process');
  if (command) return await programCredentials(command, search);
  for (const key of ['sso_session', 'sso_start_url'])
    if (profile.has(key))
      throw new BuildError(`profile ${JSON.stringify(name)}: ${key} is not supported by s3 cache`);
  return undefined;
}

function keysOfProfile(profile: Profile): AwsCredentials | undefined {
  const accessKeyId = profile.get('aws_access_key_id');
  const secretAccessKey = profile.get('aws_secret_access_key');
  if (!accessKeyId || !secretAccessKey) return undefined;
  return { accessKeyId, secretAccessKey, sessionToken: profile.get('aws_session_token') ?? '' };
}

/** Credentials that a role is taken on with. */
async function sourceOf(
  name: string,
  profile: Profile,
  profiles: Profiles,
  search: Search,
  seen: readonly string[],
): Promise<AwsCredentials> {
  const other = profile.get('source_profile');
  const kind = profile.get('credential_source');
  const found =
    other !== undefined
      ? await fromProfile(other, profiles, search, seen)
      : kind === 'Environment'
        ? keysOf(search.env)
        : kind === 'EcsContainer'
          ? await containerCredentials(search)
          : kind === 'Ec2InstanceMetadata'
            ? await machineCredentials(search)
            : undefined;
  if (found) return found;
  throw new BuildError(
    `profile ${JSON.stringify(name)}: no credentials to take on its role with (source_profile ${JSON.stringify(other ?? '')}, credential_source ${JSON.stringify(kind ?? '')})`,
  );
}
