import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createPublicKey, verify } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Code } from '../../base/errors.ts';
import { sessionAuth } from '../caller/auth.ts';
import { checkSshAgent, openSshSocket } from '../caller/ssh.ts';
import { withSession } from '../harness.ts';
import { authService } from './auth.ts';
import { DockerConfig } from './docker-config.ts';
import { sshService } from './ssh.ts';

const root = mkdtempSync(join(tmpdir(), 'lend-'));
after(() => rmSync(root, { recursive: true }));

test('credentials: plain, hub, identity token, helper, nothing', async () => {
  const dir = join(root, 'docker');
  mkdirSync(dir);
  const bin = join(dir, 'docker-credential-fake');
  writeFileSync(
    bin,
    '#!/bin/sh\nread host\ncase $host in none.io) echo "credentials not found in native keychain"; exit 1;; bad.io) echo broken; exit 2;; esac\necho "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"helped\\",\\"Secret\\":\\"by-$host\\"}"\n',
  );
  chmodSync(bin, 0o755);
  const auth = Buffer.from('user:pass:word').toString('base64');
  const config = {
    auths: {
      'reg.io': { auth },
      'https://index.docker.io/v1/': { username: 'hub', password: 'p' },
      'id.io': { identitytoken: 'tok' },
    },
    credHelpers: { 'helped.io': 'fake', 'none.io': 'fake', 'bad.io': 'fake' },
  };
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
  const lines: string[] = [];
  const service = authService({
    config: new DockerConfig(dir, { PATH: `${dir}:${process.env.PATH ?? ''}` }),
    onUse: (line) => lines.push(line),
  });
  await withSession([service], async (session, signal) => {
    const api = sessionAuth(session);
    const get = async (host: string) => Object.values(await api.credentials(host, signal));
    assert.deepEqual(await get('reg.io'), ['user', 'pass:word']);
    assert.deepEqual(await get('registry-1.docker.io'), ['hub', 'p']);
    assert.deepEqual(await get('id.io'), ['', 'tok']);
    assert.deepEqual(await get('helped.io'), ['helped', 'by-helped.io']);
    assert.deepEqual(await get('none.io'), ['', '']);
    await assert.rejects(api.credentials('bad.io', signal), /exit status 2, out: `broken`/);
    assert.equal(lines[0], '[auth] sharing credentials for reg.io');
    const salt = Buffer.alloc(32, 1);
    const key = await api.tokenAuthority('reg.io', salt, signal);
    assert.equal(key.length, 32);
    const payload = Buffer.from('challenge');
    const signed = await api.verifyTokenAuthority('reg.io', payload, salt, signal);
    assert.deepEqual(Buffer.from(signed.subarray(64)), payload);
    const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), key]);
    assert.ok(
      verify(
        null,
        payload,
        createPublicKey({ key: spki, format: 'der', type: 'spki' }),
        signed.subarray(0, 64),
      ),
    );
    assert.notDeepEqual(await api.tokenAuthority('reg.io', Buffer.alloc(32, 2), signal), key);
    assert.match(readFileSync(join(dir, '.token_seed'), 'utf8'), /"reg.io": \{\n {4}"Seed": "/);
  });
  const off = authService({ config: new DockerConfig(dir, {}), noClientToken: true });
  await withSession([off], async (session, signal) => {
    await assert.rejects(sessionAuth(session).tokenAuthority('reg.io', Buffer.alloc(32), signal), {
      code: Code.unavailable,
    });
  });
});

test('tokens: POST with a secret, GET when the server has no POST or nobody is known', async () => {
  const seen: string[] = [];
  let refusePost = false;
  const server = createHttpServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    seen.push(`${request.method} ${request.url} ${request.headers.authorization ?? ''} ${body}`);
    if (request.method === 'POST' && refusePost) {
      response.writeHead(404).end();
      return;
    }
    const answer = request.method === 'POST' ? { access_token: 'posted', expires_in: 300 } : { token: 'got' };
    response.end(JSON.stringify(answer));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const dir = join(root, 'tokens');
  mkdirSync(dir);
  writeFileSync(
    join(dir, 'config.json'),
    JSON.stringify({ auths: { 'r.io': { username: 'u', password: 'p' } } }),
  );
  const Realm = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`;
  const Scopes = ['repository:a:pull', 'repository:b:pull'];
  await withSession([authService({ config: new DockerConfig(dir, {}) })], async (session, signal) => {
    const api = sessionAuth(session);
    const token = (Host: string) =>
      api.fetchToken({ ClientID: '', Host, Realm, Service: 's', Scopes }, signal);
    assert.deepEqual(await token('r.io'), { Token: 'posted', ExpiresIn: 300n, IssuedAt: 0n });
    assert.match(
      seen[0] ?? '',
      /^POST \/token {2}scope=.*&service=s&client_id=buildkit-client&grant_type=password&username=u/,
    );
    refusePost = true;
    assert.equal((await token('r.io')).Token, 'got');
    assert.match(seen[2] ?? '', /^GET \/token\?service=s&scope=repository%3Aa%3Apull&scope=.* Basic dTpw/);
    assert.deepEqual(await token('other.io'), { Token: 'got', ExpiresIn: 60n, IssuedAt: 0n });
  });
  server.close();
});

test('a token server that refuses what a helper said before makes the helper be asked again', async () => {
  const dir = join(root, 'renewed');
  mkdirSync(dir);
  writeFileSync(
    join(dir, 'docker-credential-file'),
    `#!/bin/sh\nread host\necho "{\\"Username\\":\\"u\\",\\"Secret\\":\\"$(cat ${dir}/secret)\\"}"\n`,
  );
  chmodSync(join(dir, 'docker-credential-file'), 0o755);
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ credsStore: 'file' }));
  let right = 'one';
  const server = createHttpServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    const good = new URLSearchParams(body).get('password') === right;
    response.writeHead(good ? 200 : 401).end(JSON.stringify({ access_token: `for ${right}` }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const Realm = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`;
  const config = new DockerConfig(dir, { PATH: `${dir}:${process.env.PATH ?? ''}` });
  await withSession([authService({ config })], async (session, signal) => {
    const token = () =>
      sessionAuth(session).fetchToken(
        { ClientID: '', Host: 'r.io', Realm, Service: 's', Scopes: [] },
        signal,
      );
    writeFileSync(join(dir, 'secret'), 'one');
    assert.equal((await token()).Token, 'for one');
    writeFileSync(join(dir, 'secret'), 'two');
    right = 'two';
    assert.equal((await token()).Token, 'for two');
    right = 'three';
    await assert.rejects(token(), /401/);
  });
  server.close();
});

const socketOptions = { uid: 0, gid: 0, mode: 0o600, tmpDir: root };

test('ssh keys: ssh-add lists them and every signature verifies', async () => {
  const dir = join(root, 'keys');
  mkdirSync(dir);
  const kinds = [
    ['ed25519'],
    ['rsa', '-b', '2048'],
    ['ecdsa', '-b', '256'],
    ['ecdsa', '-b', '521'],
    ['rsa', '-b', '2048', '-m', 'PEM'],
  ];
  const paths = kinds.map((kind, i) => {
    const path = join(dir, `k${i}`);
    execFileSync('ssh-keygen', ['-q', '-N', '', '-C', `key ${i}`, '-f', path, '-t', ...kind]);
    return path;
  });
  const locked = join(dir, 'locked');
  execFileSync('ssh-keygen', ['-q', '-N', 'secret', '-f', locked, '-t', 'ed25519']);
  assert.throws(() => sshService([{ id: '', paths: [locked] }], undefined), /passphrase protected/);
  assert.throws(() => sshService([{ id: '', paths: [] }], undefined), {
    message:
      'failed to convert agent config {default [] false}: invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set',
  });
  assert.throws(() => sshService([{ id: 'a', paths: ['/nowhere'] }], undefined), {
    message:
      'failed to convert agent config {a [/nowhere] false}: failed to convert agent config for ID: "a": stat /nowhere: no such file or directory',
  });
  assert.throws(
    () => sshService([{ id: 'a', paths: ['/etc/passwd'] }], undefined),
    /failed to parse \/etc\/passwd: ssh: no key found$/,
  );
  await withSession([sshService([{ id: '', paths }], undefined)], async (session, signal) => {
    await checkSshAgent(session, '', signal);
    await assert.rejects(checkSshAgent(session, 'other', signal), /unset ssh forward key other/);
    const socket = await openSshSocket(session, { id: 'default', ...socketOptions }, signal);
    const run = async (...args: string[]): Promise<string> => {
      const child = spawn(args[0] as string, args.slice(1), {
        env: { ...process.env, SSH_AUTH_SOCK: socket.path },
      });
      let out = '';
      for await (const part of child.stdout) out += part;
      return out;
    };
    const list = await run('ssh-add', '-L');
    for (const path of paths) {
      const [type, blob] = readFileSync(`${path}.pub`, 'utf8').split(' ');
      assert.ok(list.includes(`${type} ${blob}`), `${path} is not listed`);
      writeFileSync(join(dir, 'text'), 'signed text');
      // ssh-keygen checks the agent's signature itself before it writes the file.
      await run('ssh-keygen', '-Y', 'sign', '-q', '-n', 'file', '-f', `${path}.pub`, join(dir, 'text'));
      const allowed = join(dir, 'allowed');
      writeFileSync(allowed, `me ${type} ${blob}\n`);
      const verdict = execFileSync(
        'ssh-keygen',
        ['-Y', 'verify', '-n', 'file', '-I', 'me', '-f', allowed, '-s', join(dir, 'text.sig')],
        { input: 'signed text', encoding: 'utf8' },
      );
      assert.match(verdict, /^Good/);
      rmSync(join(dir, 'text.sig'));
    }
    await run('ssh-add', '-D');
    assert.equal(await run('ssh-add', '-L'), list);
    await socket.close();
  });
});

test('ssh: a real agent may not be changed; raw sockets carry any bytes, half-closed too', async () => {
  const agentPath = join(root, 'agent.sock');
  const agent = spawn('ssh-agent', ['-D', '-a', agentPath], { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(agent.stdout, 'readable');
  const key = join(root, 'agent-key');
  execFileSync('ssh-keygen', ['-q', '-N', '', '-f', key, '-t', 'ed25519']);
  execFileSync('ssh-add', ['-q', key], { env: { ...process.env, SSH_AUTH_SOCK: agentPath } });
  const rawPath = join(root, 'raw.sock');
  const echo = createServer({ allowHalfOpen: true }, async (socket) => {
    let all = '';
    for await (const part of socket.iterator({ destroyOnReturn: false })) all += part;
    socket.end(`got ${all.length}`);
  });
  echo.listen(rawPath);
  const sources = [
    { id: 'agent', paths: [] },
    { id: 'raw', paths: [rawPath], raw: true },
  ];
  await withSession([sshService(sources, agentPath)], async (session, signal) => {
    const socket = await openSshSocket(session, { id: 'agent', ...socketOptions }, signal);
    const run = async (...args: string[]): Promise<{ code: number; out: string }> => {
      const child = spawn('ssh-add', args, { env: { ...process.env, SSH_AUTH_SOCK: socket.path } });
      const closed = once(child, 'close');
      let out = '';
      for await (const part of child.stdout) out += part;
      return { code: (await closed)[0] as number, out };
    };
    assert.match((await run('-L')).out, /^ssh-ed25519 /);
    assert.notEqual((await run('-D')).code, 0);
    assert.notEqual((await run('-q', key)).code, 0);
    assert.match((await run('-L')).out, /^ssh-ed25519 /);
    await socket.close();
    const raw = await openSshSocket(session, { id: 'raw', ...socketOptions }, signal);
    const client = connect({ path: raw.path, allowHalfOpen: true });
    client.end('x'.repeat(300_000));
    let answer = '';
    for await (const part of client) answer += part;
    assert.equal(answer, 'got 300000');
    await raw.close();
  });
  echo.close();
  agent.kill();
});
