// What steps see of RUN --mount, --network and --security: each line as BuildKit's own daemon prints it.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, symlinkSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Daemon, Registry, TempDir } from './harness.ts';
import { eventually } from './state.ts';

let registry: Registry;
let daemon: Daemon;
let agent: ChildProcess;
const dir = new TempDir();

before(async () => {
  dir.write({ 'c/f': 'file f\n', 'c/sub/g': 'file g\n', 'c/sub/deep/h': 'h\n', secret: 's3cret\n' });
  symlinkSync('sub', dir.join('c/ln'));
  agent = spawn('ssh-agent', ['-D', '-a', dir.join('agent')], { stdio: 'ignore' });
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({
    config: registry.config,
    args: [
      '--allow-insecure-entitlement',
      'network.host',
      '--allow-insecure-entitlement',
      'security.insecure',
    ],
  });
  await eventually(() => assert.ok(existsSync(dir.join('agent'))));
});

after(async () => {
  agent.kill();
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** A step: its flags, its command, and what that prints. */
type Step = readonly [flags: string, command: string, ...prints: string[]];

const STAT = 'stat -c "%n %F %a %u:%g"';
/** Type and options of what is mounted at a path. */
const mounted = (path: string): string => `grep " ${path} " /proc/mounts | cut -d" " -f3,4`;

/** Runs the steps one after the other and compares what each prints. */
async function compare(name: string, steps: readonly Step[], args: readonly string[] = []): Promise<void> {
  const lines = steps.map(
    ([flags, command], i) => `RUN ${flags} { ${command}; } 2>&1 | sed "s/^/s${i}: /" && true # ${i}`,
  );
  dir.write({ [`d/${name}`]: `FROM busybox AS b\nWORKDIR /w\n${lines.join('\n')}\n` });
  const locals = ['--local', `context=${dir.join('c')}`, '--local', `dockerfile=${dir.join('d')}`];
  const command = ['build', '--progress', 'plain', '--no-cache', '--frontend', 'dockerfile.v0', ...locals];
  const { code, stderr } = await daemon.buildctl([...command, '--opt', `filename=${name}`, ...args]);
  assert.equal(code, 0, stderr);
  const printed = [...stderr.matchAll(/^#\d+ \d+\.\d+ (s\d+: .*)$/gm)].map((match) => match[1]);
  const wanted = steps.flatMap(([, , ...prints], i) => prints.map((text) => `s${i}: ${text}`));
  assert.deepEqual(printed, wanted);
}

test('bind mounts', async () => {
  await compare('bind', [
    ['--mount=target=x', 'cat x/f; touch x/n', 'file f', 'touch: x/n: Read-only file system'],
    ['', 'ls -A /w'],
    ['--mount=target=/x,rw', 'touch /x/n && ls /x', 'f', 'ln', 'n', 'sub'],
    ['--mount=target=/x', 'ls /x', 'f', 'ln', 'sub'],
    ['--mount=source=sub/g,target=/y/z/g', 'cat /y/z/g', 'file g'],
    ['', 'ls -d /y /x', 'ls: /y: No such file or directory', 'ls: /x: No such file or directory'],
    ['--mount=src=ln,dst=/x', 'ls /x', 'deep', 'g'],
    [
      '--mount=target=/x --mount=target=/x/sub,source=sub/deep',
      'ls /x /x/sub',
      '/x:',
      'f',
      'ln',
      'sub',
      '',
      '/x/sub:',
      'h',
    ],
    ['--mount=target=/x,source=sub --mount=target=/x,source=sub/deep', 'ls /x', 'h'],
    ['--mount=target=/x,ro=false', 'touch /x/a && echo ok', 'ok'],
    ['--mount=target=/x,rw=false', 'touch /x/a', 'touch: /x/a: Read-only file system'],
    ['--mount=from=busybox,source=/bin,target=/x', 'ls /x | grep busybox', 'busybox'],
    ['--mount=source=f,target=/etc/hosts', 'cat /etc/hosts', 'file f'],
    ['--mount=source=f,target=/dev/x', 'cat /dev/x', 'file f'],
  ]);
});

test('tmpfs mounts', async () => {
  await compare('tmpfs', [
    [
      '--mount=type=tmpfs,target=/x',
      `${mounted('/x')}; ${STAT} /x; touch /x/a`,
      'tmpfs rw,nosuid,relatime',
      '/x directory 1777 0:0',
    ],
    ['--mount=type=tmpfs,target=/x,size=2m', mounted('/x'), 'tmpfs rw,nosuid,relatime,size=2048k'],
    ['--mount=TYPE=tmpfs,Target=x', mounted('/w/x'), 'tmpfs rw,nosuid,relatime'],
    ['--mount=type=tmpfs,target=/x,ro', 'touch /x/a', 'touch: /x/a: Read-only file system'],
    ['', 'ls -d /x', 'ls: /x: No such file or directory'],
  ]);
});

test('cache mounts', async () => {
  await compare('cache', [
    ['--mount=type=cache,target=/x', `touch /x/1; ${STAT} /x`, '/x directory 755 0:0'],
    ['--mount=type=cache,target=/x', 'touch /x/2; ls /x', '1', '2'],
    ['--mount=type=cache,target=/x,ro', 'ls /x; touch /x/a', '1', '2', 'touch: /x/a: Read-only file system'],
    ['--mount=type=cache,target=/m,mode=0711,uid=5,gid=6', `${STAT} /m`, '/m directory 711 5:6'],
    ['--mount=type=cache,target=/u,uid=7', `${STAT} /u`, '/u directory 755 7:0'],
    ['--mount=type=cache,target=/a,id=one', 'echo 1 > /a/f'],
    ['--mount=type=cache,target=/b,id=one', 'cat /b/f', '1'],
    [
      '--mount=type=cache,target=/a,id=two --mount=type=cache,target=/b,id=two',
      'echo 2 > /a/f; cat /b/f',
      '2',
    ],
    ['--mount=type=cache,target=/p,sharing=private', 'touch /p/1; ls /p', '1'],
    ['--mount=type=cache,target=/l,sharing=locked', 'touch /l/1; ls /l', '1'],
    ['--mount=type=cache,target=rel', 'touch rel/1; ls /w/rel', '1'],
    ['--mount=type=cache,target=/f,from=busybox,source=/etc', 'ls /f | grep group', 'group'],
    ['', 'ls -A /w; ls -d /x', 'ls: /x: No such file or directory'],
  ]);
});

test('secrets and agents', async () => {
  const given = ['--secret', `id=s,src=${dir.join('secret')}`, '--ssh', `default=${dir.join('agent')}`];
  const steps: readonly Step[] = [
    [
      '--mount=type=secret,id=s',
      `cat /run/secrets/s; ${STAT} /run/secrets/s`,
      's3cret',
      '/run/secrets/s regular file 400 0:0',
    ],
    ['', 'ls -d /run/secrets', 'ls: /run/secrets: No such file or directory'],
    [
      '--mount=type=secret,id=s',
      `${mounted('/run/secrets/s')} | cut -d, -f1-4`,
      'tmpfs ro,nosuid,nodev,noexec',
    ],
    ['--mount=type=secret,id=none', 'ls /run/secrets', 'ls: /run/secrets: No such file or directory'],
    [
      '--mount=type=secret,id=s,target=/a/b,mode=0555,uid=3,gid=4',
      `cat /a/b; ${STAT} /a/b`,
      's3cret',
      '/a/b regular file 555 3:4',
    ],
    [
      '--mount=type=secret,id=s,env=SE',
      'echo "v $SE"; ls /run/secrets',
      'v s3cret',
      '',
      'ls: /run/secrets: No such file or directory',
    ],
    ['--mount=type=secret,id=s,env=SE,target=/t', 'echo "v $SE" | head -1; cat /t', 'v s3cret', 's3cret'],
    ['--mount=type=secret,id=none,env=SE', 'echo "[$SE] ${SE-unset}"', '[] '],
    ['--mount=type=secret,source=s,target=rel', 'cat rel; cat /w/rel', 's3cret', 's3cret'],
    [
      '--mount=type=secret,id=s,rw',
      'echo x > /run/secrets/s',
      "/bin/sh: can't create /run/secrets/s: Read-only file system",
    ],
    [
      '--mount=type=ssh',
      `echo $SSH_AUTH_SOCK; ${STAT} $SSH_AUTH_SOCK`,
      '/run/buildkit/ssh_agent.0',
      '/run/buildkit/ssh_agent.0 socket 600 0:0',
    ],
    [
      '--mount=type=ssh,target=/tmp/a.sock,mode=0666,uid=2,gid=3',
      `echo $SSH_AUTH_SOCK; ${STAT} /tmp/a.sock`,
      '/tmp/a.sock',
      '/tmp/a.sock socket 666 2:3',
    ],
    ['--mount=type=ssh,id=none', 'echo "[$SSH_AUTH_SOCK]"', '[/run/buildkit/ssh_agent.0]'],
    [
      '',
      'ls -d /run/buildkit; echo "[$SSH_AUTH_SOCK]"',
      'ls: /run/buildkit: No such file or directory',
      '[]',
    ],
  ];
  await compare('secret', steps, given);
});

test('networks and privileges', async () => {
  const status = 'grep -E "^(CapEff|Seccomp):" /proc/self/status | tr "\\t" " "';
  await compare(
    'modes',
    [
      ['--network=none', 'ls /sys/class/net', 'lo'],
      [
        '--security=sandbox',
        `${status}; ls -d /dev/loop-control`,
        'CapEff: 00000000a80425fb',
        'Seccomp: 2',
        'ls: /dev/loop-control: No such file or directory',
      ],
      [
        '--security=insecure',
        'grep Seccomp: /proc/self/status | tr "\\t" " "; ls -d /dev/loop-control /dev/fuse',
        'Seccomp: 0',
        '/dev/fuse',
        '/dev/loop-control',
      ],
      ['--network=host', 'echo x', 'x'],
    ],
    ['--allow', 'security.insecure', '--allow', 'network.host'],
  );
  for (const [flag, name] of [
    ['--security=insecure', 'security.insecure'],
    ['--network=host', 'network.host'],
  ]) {
    dir.write({ 'refused/Dockerfile': `FROM busybox\nRUN ${flag} true\n` });
    const { code, stderr } = await daemon.tryBuild(dir.join('refused'));
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`error: failed to solve: failed to load LLB: ${name} is not allowed\n`));
  }
});
