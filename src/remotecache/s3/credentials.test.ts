import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { BuildError } from '../../base/errors.ts';
import { HttpClient } from '../../registry/http.ts';
import { type Fault, startFaulty, type SeenRequest } from '../../testing/registry.ts';
import { Expiring } from '../cloud/expiring.ts';
import { credentialsFor } from './credentials.ts';
import type { AwsCredentials } from './sigv4.ts';

const http = new HttpClient({ userAgent: 'buildkit/test' });
const signal = new AbortController().signal;
const dir = mkdtempSync(join(tmpdir(), 'aws-'));
after(() => rmSync(dir, { recursive: true }));
const LATER = '2999-01-01T00:00:00Z';
const NOTHING = { accessKeyId: '', secretAccessKey: '', sessionToken: '', region: 'eu-west-1' };
/** No machine answers here. */
const NOWHERE = { HOME: join(dir, 'none'), AWS_EC2_METADATA_DISABLED: 'true' };

type Env = Record<string, string>;

function find(env: Env, given: Partial<typeof NOTHING> = {}): Promise<AwsCredentials> {
  return credentialsFor({ ...NOTHING, ...given }, { http, env: { ...NOWHERE, ...env } }).get(signal);
}

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

function json(value: unknown): Fault {
  return { status: 200, body: JSON.stringify(value) };
}

function roleXml(id: string): Fault {
  return {
    status: 200,
    body: `<R><Credentials><AccessKeyId>${id}</AccessKeyId><SecretAccessKey>s&amp;s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>${LATER}</Expiration></Credentials></R>`,
  };
}

const keys = (text: Partial<AwsCredentials>) => ({ sessionToken: '', ...text });

test('those that are given win, then the environment', async () => {
  const env = { AWS_ACCESS_KEY_ID: 'e', AWS_SECRET_ACCESS_KEY: 'es', AWS_SESSION_TOKEN: 'et' };
  const given = { accessKeyId: 'g', secretAccessKey: 'gs' };
  assert.deepEqual(await find(env, given), keys({ accessKeyId: 'g', secretAccessKey: 'gs' }));
  const own = { accessKeyId: 'e', secretAccessKey: 'es', sessionToken: 'et' };
  assert.deepEqual(await find(env), own);
  assert.deepEqual(await find(env, { accessKeyId: 'alone' }), own);
});

test('profiles come from the shared files, with roles on top of others', async () => {
  const config = file(
    'config',
    '# text\n[default]\nregion = x\ns3 =\n  aws_access_key_id = nested\n' +
      '[profile role]\nrole_arn = arn:role\nsource_profile=base\nexternal_id = ext ; why\n' +
      '[profile loop]\nrole_arn = a\nsource_profile = loop2\n[profile loop2]\nrole_arn = b\nsource_profile = loop\n' +
      '[profile own]\nrole_arn = arn:own\nsource_profile = own\naws_access_key_id = o\naws_secret_access_key = os\n' +
      '[profile env]\nrole_arn = arn:env\ncredential_source = Environment\n' +
      '[profile sso]\nsso_session = s\n[base]\naws_access_key_id = not this\n',
  );
  const credentials = file(
    'credentials',
    '[default]\naws_access_key_id = d\naws_secret_access_key = ds/=x\n[base]\naws_access_key_id=b\naws_secret_access_key=bs\naws_session_token = bt\n',
  );
  const files = { AWS_CONFIG_FILE: config, AWS_SHARED_CREDENTIALS_FILE: credentials };
  assert.deepEqual(await find(files), keys({ accessKeyId: 'd', secretAccessKey: 'ds/=x' }));
  const base = await find({ ...files, AWS_PROFILE: 'base' });
  assert.deepEqual(base, { accessKeyId: 'b', secretAccessKey: 'bs', sessionToken: 'bt' });

  await using sts = await startFaulty(undefined, () => roleXml('role'));
  const role = { ...files, AWS_ENDPOINT_URL_STS: `http://${sts.host}` };
  const taken = await find({ ...role, AWS_PROFILE: 'role' });
  assert.deepEqual(taken, {
    accessKeyId: 'role',
    secretAccessKey: 's&s',
    sessionToken: 't',
    expiresAt: Date.parse(LATER),
  });
  assert.match(sts.seen[0]!.headers.authorization!, /Credential=b\/\d{8}\/eu-west-1\/sts\/aws4_request/);
  assert.equal(sts.seen[0]!.headers['x-amz-security-token'], 'bt');
  await find({ ...role, AWS_PROFILE: 'own' });
  assert.match(sts.seen[1]!.headers.authorization!, /Credential=o\//);

  await assert.rejects(
    find({ ...files, AWS_PROFILE: 'loop' }),
    /profile "loop": roles lead round: loop, loop2, loop/,
  );
  await assert.rejects(
    find({ ...files, AWS_PROFILE: 'what' }),
    /no profile "what" in .*config or .*credentials/,
  );
  await assert.rejects(find({ ...files, AWS_PROFILE: 'sso' }), /profile "sso": sso_session is not supported/);
  await assert.rejects(find({ ...files, AWS_PROFILE: 'env' }), /no credentials to take on its role with/);
});

test('a profile names a program', async () => {
  const answer = JSON.stringify({
    Version: 1,
    AccessKeyId: 'p',
    SecretAccessKey: 'ps',
    SessionToken: 'pt',
    Expiration: LATER,
  });
  const config = file(
    'programs',
    `[default]\ncredential_process = cat '${file('answer', answer)}'\n` +
      '[profile bad]\ncredential_process = echo oh no >&2; echo secret; exit 3\n' +
      '[profile wrong]\ncredential_process = echo secret\n',
  );
  const env = { AWS_CONFIG_FILE: config, PATH: process.env.PATH! };
  assert.deepEqual(await find(env), {
    accessKeyId: 'p',
    secretAccessKey: 'ps',
    sessionToken: 'pt',
    expiresAt: Date.parse(LATER),
  });
  await assert.rejects(find({ ...env, AWS_PROFILE: 'bad' }), {
    message: 'credential_process: exit code 3: oh no',
  });
  await assert.rejects(find({ ...env, AWS_PROFILE: 'wrong' }), {
    message: 'credential_process: the answer is no JSON object',
  });
});

test('a web identity is exchanged for a role, again while the service fails', async () => {
  const token = file('token', 'jwt\n');
  const faults: Fault[] = [{ status: 503 }];
  await using sts = await startFaulty(undefined, () => faults.shift() ?? roleXml('web'));
  const env = { AWS_WEB_IDENTITY_TOKEN_FILE: token, AWS_ENDPOINT_URL_STS: `http://${sts.host}` };
  assert.equal((await find({ ...env, AWS_ROLE_ARN: 'arn:web' })).accessKeyId, 'web');
  assert.equal(sts.seen.length, 2);
  await assert.rejects(find(env), /AWS_ROLE_ARN is not set/);
  await assert.rejects(
    find({ ...env, AWS_ROLE_ARN: 'a', AWS_WEB_IDENTITY_TOKEN_FILE: '/nowhere' }),
    /failed to read web identity token: ENOENT/,
  );
  faults.push({
    status: 403,
    body: '<E><Error><Code>AccessDenied</Code><Message>Not authorized</Message></Error></E>',
  });
  await assert.rejects(find({ ...env, AWS_ROLE_ARN: 'arn:x' }), (error: Error) => {
    assert.match(
      error.message,
      /^AssumeRoleWithWebIdentity of arn:x: POST .*: 403 AccessDenied: Not authorized$/,
    );
    assert.doesNotMatch(error.message, /jwt/);
    return true;
  });
});

test('a container has a service for them; tokens go to this machine only', async () => {
  const answer = { AccessKeyId: 'c', SecretAccessKey: 'cs', Token: 'ct', Expiration: LATER };
  await using service = await startFaulty(undefined, () => json(answer));
  const env = {
    AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://${service.host}/creds?id=1`,
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file('auth', 'Bearer x\n'),
  };
  assert.equal((await find(env)).sessionToken, 'ct');
  assert.deepEqual(
    service.seen.map(({ url, headers }) => [url, headers.authorization]),
    [['/creds?id=1', 'Bearer x']],
  );
  for (const uri of ['http://example.com/x', 'ftp://127.0.0.1/', 'x'])
    await assert.rejects(
      find({ ...env, AWS_CONTAINER_CREDENTIALS_FULL_URI: uri }),
      /neither https nor of this machine/,
    );
});

test('a machine of EC2 tells those of its role, version 2 of the service', async () => {
  const answers = ({ method, url, headers }: SeenRequest): Fault => {
    if (method === 'PUT' && url === '/latest/api/token') return { status: 200, body: 'tok' };
    if (headers['x-aws-ec2-metadata-token'] !== 'tok') return { status: 401 };
    if (url.endsWith('/security-credentials/')) return { status: 200, body: 'my role\n' };
    if (url.endsWith('/my%20role'))
      return json({
        Code: 'Success',
        AccessKeyId: 'm',
        SecretAccessKey: 'ms',
        Token: 'mt',
        Expiration: LATER,
      });
    return { status: 404 };
  };
  await using service = await startFaulty(undefined, answers);
  const env = { AWS_EC2_METADATA_DISABLED: '', AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://${service.host}` };
  assert.equal((await find(env)).accessKeyId, 'm');
});

test('a machine without any says where was looked, and does not wait for long', async () => {
  await using service = await startFaulty(undefined, () => ({ silent: true }));
  const env = { AWS_EC2_METADATA_DISABLED: '', AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://${service.host}` };
  const started = Date.now();
  await assert.rejects(find(env), (error: BuildError) => {
    assert.match(
      error.message,
      /^no credentials for s3 cache: .*profile "default" of .*none\/\.aws\/config and .*EC2 instance metadata: .*no answer within 1 s/,
    );
    assert.match(error.hint!, /access_key_id/);
    return true;
  });
  assert.ok(Date.now() - started < 8000);
  assert.equal(service.seen.length, 2);
});

test('credentials that end are found again before they do; a failure then does not matter yet', async () => {
  let found = 0;
  const ends = [10_000, -1, 3_600_000];
  const source = new Expiring(async () => {
    const left = ends[found++];
    if (left === -1) throw new BuildError('not now');
    return { id: found, expiresAt: Date.now() + left! };
  });
  assert.deepEqual(
    (await Promise.all([source.get(signal), source.get(signal)])).map(({ id }) => id),
    [1, 1],
  );
  assert.equal((await source.get(signal)).id, 1); // not now
  assert.equal((await source.get(signal)).id, 3);
  assert.equal((await source.get(signal)).id, 3);
  assert.equal(source.expire(), true);
  assert.equal(source.expire(), false);
});
