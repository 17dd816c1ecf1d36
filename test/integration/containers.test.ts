// Containers that the client of a build opens over LLBBridge.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { ExecMessage, NewContainerRequest } from '../../src/pb/gateway.ts';
import { inBuild, start } from './bridge.ts';
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

test('a container on the result of a graph: processes, their files, a terminal; gone with the build', async () => {
  await inBuild(daemon, async (bridge, options, root) => {
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
  const giveUp = inBuild(daemon, async (bridge, options, root) => {
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
  await inBuild(daemon, async (bridge, options, root) => {
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

test('clients read that they may choose exports by the result', async () => {
  await inBuild(daemon, async (bridge, options) => {
    const { LLBCaps } = await bridge.ping({}, options);
    const cap = LLBCaps.find(({ ID }) => ID === 'exporter.session');
    assert.equal(cap?.Enabled, true);
  });
});
