// `buildctl debug shell`: a shell in what a failed step left.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { openPty, resizeTerminalOf } from '../../src/sys/pty.ts';
import { BUILDCTL, Daemon, Registry, TempDir } from './harness.ts';
import { eventually, stateOf } from './state.ts';

let registry: Registry;
let daemon: Daemon;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({ config: registry.config });
  dir.write({
    'fails/Dockerfile':
      'FROM busybox\nWORKDIR /work\nENV MARK=here\nRUN --mount=type=cache,target=/cache echo made | tee data /cache/file && exit 7\n',
    'copy/Dockerfile': 'FROM busybox\nCOPY missing /\n',
    'empty/Dockerfile': 'FROM scratch\nCOPY Dockerfile /\nRUN ["/none"]\n',
    'works/Dockerfile': 'FROM busybox\nRUN true\n',
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** buildctl on a terminal. */
function onTerminal(args: readonly string[]) {
  const { stream, slave } = openPty();
  const child = spawn(BUILDCTL, ['--addr', daemon.address, ...args], { stdio: [slave, slave, slave] });
  closeSync(slave);
  const seen = { text: '', from: 0 };
  const read = (async () => {
    try {
      for await (const data of stream) seen.text += data;
    } catch {
      // The other end is closed.
    }
  })();
  const code = new Promise<number | null>((done) => child.once('exit', done));
  const pid = child.pid ?? 0;
  return {
    pid,
    code,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    type: (text: string) => void stream.write(text),
    resize: (rows: number, columns: number) => {
      assert.ok(resizeTerminalOf(pid, rows, columns, -1));
      child.kill('SIGWINCH'); // it has no terminal of its own that would tell it
    },
    /** Waits for text after what was found last. */
    until: async (wanted: RegExp): Promise<void> => {
      await eventually(() => {
        const match = wanted.exec(seen.text.slice(seen.from));
        assert.ok(match, `no ${wanted} in ${seen.text}`);
        seen.from += match.index + match[0].length;
      });
    },
    end: async (): Promise<string> => {
      await code;
      stream.destroy();
      await read;
      return seen.text;
    },
  };
}

test('on a terminal: the files, environment and directory of the step; its size, and Ctrl-C', async () => {
  const shell = onTerminal(['build', '--progress', 'plain', '--debug-shell', dir.join('fails')]);
  await shell.until(/\/work # /);
  assert.ok((await daemon.buildctl(['du', '--verbose'])).stdout.includes('left by the failed step'));
  shell.resize(31, 97);
  shell.type('cat data /cache/file; echo "$MARK $PWD"\n');
  await shell.until(/made\s+made\s+here \/work/);
  shell.type('while ! stty size | grep "31 97"; do sleep 0.1; done; echo si""zed\n');
  await shell.until(/31 97\s+sized/);
  shell.type('echo wait""ing; sleep 1000\n');
  await shell.until(/waiting/);
  shell.type('\u0003');
  await shell.until(/# /);
  shell.type('exit\n');
  assert.equal(await shell.code, 1);
  const text = await shell.end();
  assert.match(
    text,
    /3\/3\] RUN[\s\S]*\/bin\/sh runs in what the step left[\s\S]*RUN --mount[\s\S]*error: .*exit code: 7/,
  );
});

test('with pipes, commands come from the standard input; what they change is dropped', async () => {
  for (let i = 0; i < 2; i++) {
    const args = ['debug', 'shell', '--progress', 'quiet', dir.join('fails')];
    const { code, stdout, stderr } = await daemon.buildctl(args, {
      input: 'cat data; ls; touch more; exit 5\n',
    });
    assert.equal(code, 1);
    assert.equal(stdout.toString(), 'made\ndata\n');
    assert.match(stderr, /error: .*exit code: 7/);
  }
});

test('a program of the user; none where there is none, or nothing that it could run in', async () => {
  const shell = (folder: string, ...args: string[]) =>
    daemon.buildctl(['debug', 'shell', '--progress', 'quiet', ...args, dir.join(folder)], { input: '' });
  const own = await shell('fails', '--debug-shell-program', '/bin/pwd');
  assert.equal(own.stdout.toString(), '/work\n');
  const empty = await shell('empty');
  assert.match(empty.stderr, /\/bin\/sh.*not found|no such file/i);
  assert.match(empty.stderr, /error: failed to solve: process "\/none"/);
  const copied = await shell('copy');
  assert.match(copied.stderr, /no shell for .*missing.*: the step that failed runs no program/);
  assert.equal((await shell('works')).code, 0);
});

test('a client that is stopped or killed in its shell leaves nothing', async () => {
  const before = stateOf(daemon);
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const shell = onTerminal(['build', '--progress', 'plain', '--debug-shell', dir.join('fails')]);
    await shell.until(/\/work # /);
    assert.notDeepEqual(stateOf(daemon).processes, before.processes);
    shell.kill(signal);
    await shell.end();
    await eventually(async () => {
      await daemon.buildctl(['prune', '--filter', 'id==none']);
      const { mounts, processes, leases, snapshots } = stateOf(daemon);
      const { mounts: m, processes: p } = before;
      assert.deepEqual({ mounts, processes }, { mounts: m, processes: p });
      assert.ok(leases <= before.leases && snapshots <= before.snapshots);
    });
  }
});
