// Records of builds: what buildctl tells of them, what keeps them, and what a kill leaves.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { after, before, test } from 'node:test';
import { connect } from '../../src/client/client.ts';
import { type BuildHistoryEvent, BuildHistoryRequest, ControlDefinition } from '../../src/pb/control.ts';
import { BUILDCTL, Daemon, Registry, TempDir } from './harness.ts';
import { eventually, stateOf } from './state.ts';

const dir = new TempDir();
let registry: Registry;
let daemon: Daemon;

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({ config: registry.config });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

interface Descriptor {
  readonly media_type: string;
  readonly digest: string;
}

interface Record {
  readonly Ref: string;
  readonly error?: { readonly code: number; readonly message: string };
  readonly externalError?: Descriptor;
  readonly logs?: Descriptor;
  readonly Result?: { readonly Results: { readonly [index: string]: Descriptor } };
  readonly Exporters?: readonly { readonly Type: string }[];
  readonly CompletedAt?: object;
  readonly numTotalSteps?: number;
  readonly numCachedSteps?: number;
  readonly numCompletedSteps?: number;
}

async function records(of = daemon): Promise<Record[]> {
  const { code, stdout, stderr } = await of.buildctl(['debug', 'histories', '--format', '{{json .Record}}']);
  assert.equal(code, 0, stderr);
  return stdout
    .toString()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record);
}

async function say(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await daemon.buildctl(args);
  assert.equal(code, 0, stderr);
  return stdout.toString();
}

async function select(more: Partial<BuildHistoryRequest>): Promise<string[]> {
  using client = connect(daemon.address);
  const control = await client.service(ControlDefinition);
  const request = { ...BuildHistoryRequest.create({ EarlyExit: true }), ...more };
  const events: BuildHistoryEvent[] = await Array.fromAsync(control.listenBuildHistory(request));
  return events.map(({ record }) => record?.Ref ?? '');
}

const context = (name: string, run: string): string => {
  dir.write({ [`${name}/Dockerfile`]: `FROM busybox\nRUN ${run}\n` });
  return dir.join(name);
};

test('a build leaves its steps, its log and the image it made', async () => {
  await daemon.build(context('good', 'echo said-by-the-step'), ['--output', 'type=image,name=x/y']);
  const [record] = await records();
  assert.ok(record);
  assert.deepEqual(
    record.Exporters?.map(({ Type }) => Type),
    ['image'],
  );
  assert.equal(record.numTotalSteps, record.numCompletedSteps);
  assert.equal(record.error, undefined);
  const plain = await say('debug', 'logs', '--progress', 'plain', record.Ref);
  assert.match(plain, /RUN echo said-by-the-step\n(?:#.*\n)*#\d+ [\d.]+ said-by-the-step\n#\d+ DONE/);
  assert.match(await say('debug', 'histories'), new RegExp(`^TYPE.*\nCOMPLETE\t${record.Ref}\t`));
});

test('an error is kept with its details, a cancelled build with what it had said', async () => {
  await daemon.tryBuild(context('bad', 'false'));
  const failed = (await records()).at(-1);
  assert.match(failed?.error?.message ?? '', /did not complete successfully: exit code: 1/);
  assert.equal(failed?.externalError?.media_type, 'application/vnd.googeapis.google.rpc.status+proto');
  assert.match(
    await say('debug', 'get', failed?.externalError?.digest ?? ''),
    /github.com\/moby\/buildkit\/errdefs\.Vertex/,
  );

  await cancelled(context('cut', 'echo last-words; sleep 1000'), 'last-words');
  await eventually(async () =>
    assert.match((await records()).at(-1)?.error?.message ?? '', /context canceled/),
  );
  const [ref = ''] = await select({ Filter: ['status==canceled'] });
  assert.match(
    await say('debug', 'logs', '--progress', 'plain', ref),
    / last-words\n(?:#.*\n)*#\d+ CANCELED/,
  );
  assert.deepEqual(await select({ Filter: ['status==error'] }), [failed?.Ref]);
  assert.deepEqual(await select({ Limit: 1 }), [ref]);
});

/** A build whose client goes away once it has said `word`. */
async function cancelled(path: string, word: string): Promise<void> {
  let client: ChildProcess | undefined;
  await daemon.tryBuild(path, [], {
    during: (child) => {
      client = child;
    },
    onStderr: (text) => {
      if (new RegExp(`\\d ${word}`).test(text)) client?.kill('SIGINT');
    },
  });
}

test('a running build is listed as such, and events are told as they come', async () => {
  const monitor = spawn(BUILDCTL, ['--addr', daemon.address, 'debug', 'monitor'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const watched = (async () => {
    let shown = '';
    for await (const chunk of monitor.stdout) {
      shown += String(chunk);
      if (shown.includes('COMPLETE')) monitor.kill('SIGINT');
    }
    return shown;
  })();
  let active: string[] = [];
  await daemon.build(context('slow', 'echo begun; sleep 0.5'), [], {
    onStderr: (text) => {
      if (/\d begun/.test(text)) void select({ ActiveOnly: true }).then((refs) => (active = refs));
    },
  });
  const shown = await watched;
  const ref = (await records()).at(-1)?.Ref ?? '';
  assert.deepEqual(active, [ref]);
  assert.match(shown, new RegExp(`event: STARTED ref:${ref}\n`));
});

test('pruning the cache takes nothing of the history, pruning the history what only it keeps', async () => {
  const [good] = await records();
  const image = good?.Result?.Results['0']?.digest ?? '';
  await say('prune', '--all');
  const manifest = JSON.parse(await say('debug', 'get', image)) as {
    config: Descriptor;
    layers: Descriptor[];
  };
  assert.match(await say('debug', 'get', manifest.config.digest), /"rootfs"/);
  assert.match(await say('debug', 'logs', '--progress', 'plain', good?.Ref ?? ''), /said-by-the-step/);
  await eventually(async () => {
    const { stderr } = await daemon.buildctl(['debug', 'get', manifest.layers[0]?.digest ?? '']);
    assert.match(stderr, /not found/);
  });

  await say('debug', 'ctl', '--pin', good?.Ref ?? '');
  const count = (await records()).length;
  const pruned = (await say('prune-histories')).trimEnd().split('\n');
  assert.equal(pruned.length, count); // a header and all but the pinned one
  assert.deepEqual(
    (await records()).map(({ Ref }) => Ref),
    [good?.Ref],
  );
  await say('debug', 'ctl', '--delete', good?.Ref ?? '');
  const gone = await daemon.buildctl(['debug', 'get', image]);
  assert.match(gone.stderr, /not found/);
  await eventually(() => assert.deepEqual([stateOf(daemon).blobs, stateOf(daemon).leases], [0, 0]));
});

test('a build that is killed with its daemon is an error with the log it had', async () => {
  const root = dir.join('killed');
  const path = context('killed-build', 'echo last-words; sleep 1000');
  {
    await using killed = await Daemon.start({ root, config: registry.config });
    await killed.tryBuild(path, [], {
      onStderr: (text) => {
        // A little later, since the log is behind by up to a quarter of a second.
        if (/\d last-words/.test(text)) setTimeout(() => process.kill(killed.pid, 'SIGKILL'), 1000);
      },
    });
  }
  await using next = await Daemon.start({ root, config: registry.config });
  await eventually(async () => assert.equal((await records(next)).length, 1));
  const [record] = await records(next);
  assert.equal(record?.error?.message, 'the daemon ended before the build did');
  assert.ok(record?.CompletedAt);
  const { stdout } = await next.buildctl(['debug', 'logs', '--progress', 'plain', record?.Ref ?? '']);
  assert.match(stdout.toString(), / last-words\n/);
});

test('old records leave when there are more than the configuration allows', async () => {
  const root = dir.join('few');
  const few = { root, config: `${registry.config}[history]\nmaxAge = 0\nmaxEntries = 1\n` };
  {
    await using first = await Daemon.start(few);
    for (let i = 0; i < 3; i++) await first.build(context('few', 'true'), ['--opt', `build-arg:N=${i}`]);
    assert.equal((await records(first)).length, 3);
  }
  await using second = await Daemon.start(few);
  await eventually(async () => assert.equal((await records(second)).length, 1));
});
