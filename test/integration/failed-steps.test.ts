// What failed steps left, for clients that open containers on it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BuildError } from '../../src/base/errors.ts';
import { run } from '../../src/llb/exec.ts';
import { file, mkdir, mkfile } from '../../src/llb/file.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { image } from '../../src/llb/source.ts';
import { scratch, type State } from '../../src/llb/state.ts';
import { NewContainerRequest, SolveRequest } from '../../src/pb/gateway.ts';
import type { CallOptions } from '../../src/rpc/types.ts';
import { type Bridge, inBuild, start } from './bridge.ts';
import { Daemon, Registry, TempDir } from './harness.ts';
import { type DaemonState, eventually, stateOf } from './state.ts';

let registry: Registry;
let daemon: Daemon;

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({ config: registry.config });
  await unpack(daemon);
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
});

/** The image is there for good then: every test ends as it began. */
async function unpack(of: Daemon): Promise<void> {
  await inBuild(
    of,
    async (bridge, options, root) => void (await runOn(bridge, options, { '/': root }, 'true')),
  );
}

interface Failure {
  readonly inputIDs?: readonly string[];
  readonly mountIDs?: readonly string[];
  readonly op: {
    readonly exec?: { readonly meta: { readonly args: readonly string[] } };
    readonly file?: object;
  };
  readonly file?: { readonly index?: string };
  readonly cache?: object;
}

/** Solves what must fail. @returns what its error says of the step */
async function failureOf(bridge: Bridge, options: CallOptions, state: State): Promise<Failure> {
  const request = { Definition: marshal(state), allowResultReturn: true, Evaluate: true };
  const error = await bridge.solve(SolveRequest.fromPartial(request), options).then(
    () => assert.fail('it did not fail'),
    (failed: unknown) => BuildError.from(failed),
  );
  const details = error.details.flatMap((one) =>
    'type' in one && one.type === 'errdefs.Solve' ? [one.value] : [],
  );
  assert.equal(details.length, 1, error.message);
  return details[0] as Failure;
}

function shell(script: string, mounts: Parameters<typeof run>[1]['mounts'] = []): State {
  return run(image('busybox'), { args: ['sh', '-c', script], mounts }).root;
}

/** Runs a script in a container on the trees of these ids. */
async function runOn(
  bridge: Bridge,
  options: CallOptions,
  trees: Readonly<Record<string, string>>,
  script: string,
): Promise<string> {
  const Mounts = Object.entries(trees).map(([dest, resultID]) => ({ dest, resultID }));
  await bridge.newContainer(NewContainerRequest.fromPartial({ ContainerID: 'c', Mounts }), options);
  const { out, code } = await start(bridge, options, script).done;
  await bridge.releaseContainer({ ContainerID: 'c' }, options);
  assert.equal(code, 0, out);
  return out;
}

/** What the daemon holds, without what waits for the next collection. */
async function collected(of: Daemon): Promise<DaemonState> {
  await of.buildctl(['prune', '--filter', 'id==none']);
  await eventually(() => assert.ok(!stateOf(of).temporaryFiles.some((path) => path.startsWith('trash/'))));
  return stateOf(of);
}

/** Waits until the daemon holds what it held before. */
async function collectsTo(of: Daemon, wanted: Partial<DaemonState>): Promise<void> {
  await eventually(async () => {
    const now = await collected(of);
    for (const [key, value] of Object.entries(wanted))
      assert.deepEqual(now[key as keyof DaemonState], value, key);
  });
}

test('a container on a failed step sees what it wrote and what it began with; nothing stays', async () => {
  const given = file(scratch(), [mkfile('/x', 0o600, 'x')]);
  await inBuild(daemon, async (bridge, options) => {
    const request = { Definition: marshal(given), allowResultReturn: true, Evaluate: true };
    await bridge.solve(SolveRequest.fromPartial(request), options);
  });
  const before = await collected(daemon);
  await inBuild(daemon, async (bridge, options) => {
    const state = shell('echo made > /data; echo made > /own/data; exit 7', [
      { dest: '/given', from: given, noOutput: true },
      { dest: '/own' },
    ]);
    const failure = await failureOf(bridge, options, state);
    assert.deepEqual(failure.op.exec?.meta.args.slice(0, 2), ['sh', '-c']);
    const { inputIDs = [], mountIDs = [] } = failure;
    assert.deepEqual([inputIDs.length, mountIDs.length, inputIDs[2]], [3, 3, '']);
    const [root = '', files = '', own = ''] = mountIDs;
    const trees = { '/': root, '/given': files, '/own': own };
    const script = 'cat /data /own/data; ls /given; echo more > /data';
    assert.equal(await runOn(bridge, options, trees, script), 'made\nmade\nx\n');
    assert.equal(await runOn(bridge, options, { '/': root }, 'cat /data'), 'made\n', 'left as it was');
    const first = { '/': inputIDs[0]! };
    assert.equal(await runOn(bridge, options, first, 'ls /data 2>/dev/null || echo none'), 'none\n');
    const again = await failureOf(bridge, options, state);
    assert.deepEqual(again.mountIDs, mountIDs, 'the step runs once');
    const { stdout } = await daemon.buildctl(['du', '--verbose']);
    assert.match(stdout.toString(), /in use by build \S+ \(left by the failed step sh -c/);
    const Mounts = [{ dest: '/', resultID: 'no' }];
    const wrong = NewContainerRequest.fromPartial({ ContainerID: 'w', Mounts });
    await assert.rejects(bridge.newContainer(wrong, options), /failed to find ref no for "\/" mount/);
  });
  await collectsTo(daemon, before);
});

test('a failed file action and a look-up that failed tell which, and show their trees', async () => {
  await inBuild(daemon, async (bridge, options, root) => {
    const chained = file(scratch(), [
      mkdir('/found', 0o700),
      mkfile('/found/foo', 0o600, 'foo\n'),
      mkfile('/missing/foo', 0o600, 'foo'),
    ]);
    const action = await failureOf(bridge, options, chained);
    assert.ok(action.op.file);
    assert.deepEqual([action.inputIDs, action.mountIDs?.length, action.file?.index], [undefined, 3, '2']);
    const trees = { '/': root, '/mnt': action.mountIDs![2]! };
    assert.equal(await runOn(bridge, options, trees, 'cat /mnt/found/foo'), 'foo\n');

    const source = file(scratch(), [mkdir('/found', 0o700), mkfile('/found/bar', 0o600, 'bar\n')]);
    const mounts = [{ dest: '/src', from: source, selector: '/none', readonly: true }];
    const looked = await failureOf(bridge, options, shell('true', mounts));
    assert.ok(looked.cache);
    assert.equal(looked.inputIDs?.length, 1);
    const input = { '/': root, '/mnt': looked.inputIDs![0]! };
    assert.equal(await runOn(bridge, options, input, 'cat /mnt/found/bar'), 'bar\n');
  });
});

test('a build that is given up with a container on a failed step leaves nothing', async () => {
  const before = await collected(daemon);
  const giveUp = inBuild(daemon, async (bridge, options) => {
    const failure = await failureOf(bridge, options, shell('echo made > /data; exit 8'));
    const Mounts = [{ dest: '/', resultID: failure.mountIDs![0]! }];
    await bridge.newContainer(NewContainerRequest.fromPartial({ ContainerID: 'c', Mounts }), options);
    const process = start(bridge, options, 'echo up; sleep 1000');
    process.done.catch(() => {});
    await process.output;
    throw new Error('no more');
  });
  await assert.rejects(giveUp, /no more/);
  await collectsTo(daemon, before);
});

test('after kill -9 nothing of a failed step is left', async () => {
  using dir = new TempDir();
  const own = { config: registry.config, root: dir.join('root') };
  await using first = await Daemon.start(own);
  await unpack(first);
  const { leases, snapshots, blobs, mounts, temporaryFiles } = await collected(first);
  const killed = inBuild(first, async (bridge, options) => {
    await failureOf(bridge, options, shell('echo made > /data; exit 9'));
    assert.equal(stateOf(first).snapshots, snapshots + 1);
    await first.stop('SIGKILL');
    throw new Error('killed');
  });
  await assert.rejects(killed, /^Error: killed$/);
  await using next = await Daemon.start(own);
  await collectsTo(next, { leases, snapshots, blobs, mounts, temporaryFiles });
});
