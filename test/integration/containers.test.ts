// Containers that the client of a build opens over LLBBridge.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { connect } from '../../src/client/client.ts';
import { image } from '../../src/llb/source.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { ControlDefinition, SolveRequest as ControlSolve } from '../../src/pb/control.ts';
import { ExecMessage, LLBBridgeDefinition, NewContainerRequest, SolveRequest } from '../../src/pb/gateway.ts';
import { Metadata } from '../../src/rpc/metadata.ts';
import type { CallOptions, Client } from '../../src/rpc/types.ts';
import { Daemon, Registry } from './harness.ts';

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
});

type Bridge = Client<typeof LLBBridgeDefinition>;

/** Runs `work` as the client of a build; `root` is a busybox. */
async function inBuild(
  work: (bridge: Bridge, options: CallOptions, root: string) => Promise<void>,
): Promise<void> {
  using client = connect(daemon.address);
  const Ref = randomBytes(12).toString('hex');
  const end = new AbortController();
  const options: CallOptions = { metadata: Metadata.of({ 'buildkit-controlapi-buildid': Ref }) };
  const control = await client.service(ControlDefinition);
  const solving = control.solve(ControlSolve.fromPartial({ Ref }), { signal: end.signal });
  solving.catch(() => {});
  try {
    const bridge = await client.service(LLBBridgeDefinition);
    const Definition = marshal(image('busybox'));
    const asked = SolveRequest.fromPartial({ Definition, allowResultReturn: true });
    const { result } = await bridge.solve(asked, options);
    assert.equal(result?.result?.$case, 'refDeprecated');
    await work(bridge, options, result.result.value);
    await bridge.return(
      { result: { result: undefined, metadata: {}, attestations: {} }, error: undefined },
      options,
    );
    await solving;
  } finally {
    end.abort();
  }
}

interface Ended {
  out: string;
  code: number;
}

/** Starts a process on a stream of its own. */
function start(
  bridge: Bridge,
  options: CallOptions,
  script: string,
  more: { tty?: boolean; stdin?: boolean } = {},
) {
  const stream = bridge.execProcess(options);
  const ProcessID = 'p';
  const Init = {
    ContainerID: 'c',
    Meta: { args: ['sh', '-c', script], cwd: '/' },
    Fds: more.stdin ? [0, 1, 2] : [1, 2],
    Tty: more.tty ?? false,
  };
  const send = (Input: NonNullable<ExecMessage['Input']>) => stream.send({ ProcessID, Input });
  const started = Promise.withResolvers<void>();
  const output = Promise.withResolvers<void>();
  const read = async (): Promise<Ended> => {
    await stream.send(ExecMessage.fromPartial({ ProcessID, Input: { $case: 'Init', value: Init } }));
    const ended: Ended = { out: '', code: -1 };
    for await (const { Input: input } of stream) {
      if (input?.$case === 'Started') started.resolve();
      if (input?.$case === 'File') output.resolve();
      if (input?.$case === 'File') ended.out += Buffer.from(input.value.Data).toString();
      if (input?.$case === 'Exit') ended.code = input.value.Code;
      if (input?.$case === 'Done') break;
    }
    stream.end();
    return ended;
  };
  const done = read();
  done.catch(started.reject);
  started.promise.catch(() => {}); // not everybody waits for it
  return { done, started: started.promise, output: output.promise, send };
}

test('a container on the result of a graph: processes, their files, a terminal; gone with the build', async () => {
  await inBuild(async (bridge, options, root) => {
    const Mounts = [{ dest: '/', resultID: root }, { dest: '/own' }];
    await bridge.newContainer(NewContainerRequest.fromPartial({ ContainerID: 'c', Mounts }), options);
    const again = bridge.newContainer(NewContainerRequest.fromPartial({ ContainerID: 'c' }), options);
    await assert.rejects(again, /Container c already exists/);

    const first = start(bridge, options, 'cat; exit 3', { stdin: true });
    await first.started;
    const second = start(bridge, options, 'echo made > /own/file; echo $0; exit 4');
    assert.deepEqual(await second.done, { out: 'sh\n', code: 4 });
    const file = await bridge.readFileContainer(
      { Ref: 'c', FilePath: '/file', Range: undefined, MountIndex: 1 },
      options,
    );
    assert.equal(Buffer.from(file.Data).toString(), 'made\n');
    const stat = await bridge.statFileContainer({ Ref: 'c', Path: '/bin', MountIndex: 0 }, options);
    assert.equal(stat.stat?.path, 'bin');
    const listed = await bridge.readDirContainer(
      { Ref: 'c', DirPath: '/', IncludePattern: '', MountIndex: 1 },
      options,
    );
    assert.deepEqual(
      listed.entries.map(({ path }) => path),
      ['file'],
    );
    const terminal = start(bridge, options, 'tty; read x; echo "got $x"', { tty: true, stdin: true });
    await terminal.send({ $case: 'File', value: { Fd: 0, EOF: false, Data: Buffer.from('it\n') } });
    assert.match((await terminal.done).out, /\/dev\/pts\/\d+\r\n(it\r\n)?got it\r\n/);

    await first.send({ $case: 'File', value: { Fd: 0, EOF: true, Data: Buffer.from('end') } });
    assert.deepEqual(await first.done, { out: 'end', code: 3 });
    const late = start(bridge, options, 'true');
    assert.equal((await late.done).code, 255);
    await bridge.releaseContainer({ ContainerID: 'c' }, options);
    await assert.rejects(
      start(bridge, options, 'true').done,
      /container "c" previously released or not created/,
    );
  });
});

test('a build that is given up ends its containers', async () => {
  const mark = `sleep 98${process.pid}`;
  const giveUp = inBuild(async (bridge, options, root) => {
    const Mounts = [{ dest: '/', resultID: root }];
    await bridge.newContainer(NewContainerRequest.fromPartial({ ContainerID: 'c', Mounts }), options);
    const first = start(bridge, options, `echo up; ${mark}`);
    first.done.catch(() => {});
    await first.output;
    throw new Error('no more');
  });
  await assert.rejects(giveUp, /no more/);
  for (let i = 0; i < 200 && processes(mark) > 0; i++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(processes(mark), 0);
});

function processes(mark: string): number {
  const lines = execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).split('\n');
  return lines.filter((line) => line === mark).length;
}

test('what the build was not granted is refused', async () => {
  await inBuild(async (bridge, options, root) => {
    const request = { ContainerID: 'c', Mounts: [{ dest: '/', resultID: root }], Network: 1 as const };
    await bridge.newContainer(NewContainerRequest.fromPartial(request), options);
    const stream = bridge.execProcess(options);
    const Init = { ContainerID: 'c', Meta: { args: ['true'] } };
    await stream.send(ExecMessage.fromPartial({ ProcessID: 'p', Input: { $case: 'Init', value: Init } }));
    for await (const { Input: input } of stream) {
      if (input?.$case === 'Exit')
        assert.match(input.value.Error?.message ?? '', /network.host is not allowed/);
      if (input?.$case === 'Done') break;
    }
    stream.end();
  });
});
