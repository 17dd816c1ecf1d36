// Addresses a daemon listens on, and how clients reach them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { BUILDCTL, Daemon, freePort, run, TempDir } from './harness.ts';

const dir = new TempDir();
let port = 0;
let daemon: Daemon;

/** A certificate of `name`, signed by our authority. */
function certificate(name: string, extra: readonly string[] = []): void {
  const key = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-keyout',
    dir.join(`${name}.key`),
  ];
  const subject = ['-subj', `/CN=${name}`, '-out', dir.join(`${name}.crt`), '-days', '2'];
  execFileSync('openssl', ['req', '-x509', ...key, ...subject, ...extra], { stdio: 'ignore' });
}

before(async () => {
  certificate('ca');
  const signed = ['-CA', dir.join('ca.crt'), '-CAkey', dir.join('ca.key')];
  certificate('server', [...signed, '-addext', 'subjectAltName=DNS:builder.test,IP:127.0.0.1']);
  certificate('client', signed);
  certificate('stranger');
  port = await freePort();
  const tls = [
    '--tlscert',
    dir.join('server.crt'),
    '--tlskey',
    dir.join('server.key'),
    '--tlscacert',
    dir.join('ca.crt'),
  ];
  daemon = await Daemon.start({ args: ['--addr', `tcp://127.0.0.1:${port}`, ...tls] });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

const info = async (...flags: string[]) =>
  await run(BUILDCTL, ['--addr', `tcp://127.0.0.1:${port}`, ...flags, 'debug', 'info']);
const identity = (name: string): string[] => [
  '--tlscert',
  dir.join(`${name}.crt`),
  '--tlskey',
  dir.join(`${name}.key`),
];

test('a client with a certificate of the authority is let in, over tcp and beside the unix socket', async () => {
  const { code, stderr, stdout } = await info('--tlscacert', dir.join('ca.crt'), ...identity('client'));
  assert.equal(code, 0, stderr);
  assert.match(stdout.toString(), /^BuildKit:/);
  assert.equal((await daemon.buildctl(['debug', 'info'])).code, 0);
});

test('files by their usual names in a folder; the name to check can be given', async () => {
  for (const [from, to] of [
    ['ca.crt', 'ca.pem'],
    ['client.crt', 'cert.pem'],
    ['client.key', 'key.pem'],
  ] as const)
    execFileSync('cp', [dir.join(from), dir.join(to)]);
  assert.equal((await info('--tlsdir', dir.path, '--tlsservername', 'builder.test')).code, 0);
  const wrong = await info('--tlsdir', dir.path, '--tlsservername', 'other.test');
  assert.equal(wrong.code, 1);
  const both = await info('--tlsdir', dir.path, '--tlscacert', 'x');
  assert.match(both.stderr, /cannot specify tlsdir and tlscacert\/tlscert\/tlskey at the same time/);
});

test('strangers stay outside', async () => {
  for (const flags of [
    [],
    ['--tlscacert', dir.join('ca.crt')],
    ['--tlscacert', dir.join('ca.crt'), ...identity('stranger')],
  ]) {
    const { code, stderr } = await info(...flags);
    assert.equal(code, 1, flags.join(' '));
    assert.match(stderr, /error: failed to call info: /);
  }
});

test('a container is reached through the stdio of its tool', async () => {
  dir.write({
    'bin/docker': `#!/bin/sh\n[ "$*" = "exec -i box buildctl dial-stdio" ] || exit 9\nexec ${BUILDCTL} --addr ${daemon.address} dial-stdio\n`,
  });
  chmodSync(dir.join('bin/docker'), 0o755);
  const env = { PATH: `${dir.join('bin')}:${process.env.PATH}` };
  const found = await run(BUILDCTL, ['--addr', 'docker-container://box', 'debug', 'info'], { env });
  assert.equal(found.code, 0, found.stderr);
  const missing = await run(BUILDCTL, ['--addr', 'docker-container://other', 'debug', 'info'], { env });
  assert.match(missing.stderr, /command docker exec -i other buildctl dial-stdio failed: exit 9/);
});
