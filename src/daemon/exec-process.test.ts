import assert from 'node:assert/strict';
import { test } from 'node:test';
import { duplexPair } from 'node:stream';
import { ExitError, type ProcessControl, type RunIo } from '../executor/types.ts';
import type { StartOptions } from '../ops/container.ts';
import { ExecMessage, LLBBridgeDefinition } from '../pb/gateway.ts';
import { connectGrpc } from '../rpc/client.ts';
import { createGrpcServer, service } from '../rpc/server.ts';
import { serveProcesses } from './exec-process.ts';

type Start = (options: StartOptions, io: RunIo) => Promise<void>;
type Input = NonNullable<ExecMessage['Input']>;

/** A stream whose container does `start`, and what is said on it. */
function connect(start: Start) {
  const handlers = {
    execProcess: (stream: Parameters<typeof serveProcesses>[0]) =>
      serveProcesses(stream, async () => ({ start })),
  };
  const server = createGrpcServer({ services: [service(LLBBridgeDefinition, handlers)] });
  const [near, far] = duplexPair();
  server.serve(far);
  const channel = connectGrpc(near);
  const stream = channel.client(LLBBridgeDefinition).execProcess();
  return {
    stream,
    say: (Input: Input, ProcessID = 'p') => stream.send({ ProcessID, Input }),
    begin: (Fds: number[], ProcessID = 'p') =>
      stream.send(
        ExecMessage.fromPartial({
          ProcessID,
          Input: { $case: 'Init', value: { ContainerID: 'c', Meta: { args: ['x'] }, Fds } },
        }),
      ),
    /** Everything until the stream ends, shortened. */
    heard: async (): Promise<string[]> => {
      const all: string[] = [];
      for await (const { Input: input } of stream) all.push(short(input));
      return all;
    },
    [Symbol.asyncDispose]: async () => {
      channel.destroy();
      await server.close({ graceMs: 100 });
    },
  };
}

function short(input: ExecMessage['Input']): string {
  if (input?.$case === 'File')
    return `${input.value.Fd}:${input.value.EOF ? 'EOF' : Buffer.from(input.value.Data).toString()}`;
  return input?.$case === 'Exit'
    ? `Exit ${input.value.Code} ${input.value.Error?.message}`
    : `${input?.$case}`;
}

const control: ProcessControl = { signal: async () => {}, resize: async () => {} };
const bytes = (text: string): Uint8Array => Buffer.from(text);
const last = { $case: 'File', value: { Fd: 0, EOF: true, Data: bytes('') } } as const;

test('a process says that it has started, what it writes, how it ended, and that it is done', async () => {
  await using all = connect(async (_options, io) => {
    io.onStarted?.(control);
    await io.onStdout?.(bytes('out'));
    await io.onStderr?.(bytes('err'));
    throw new ExitError(7);
  });
  await all.begin([1, 2]);
  all.stream.end();
  const expected = ['Started', '1:out', '2:err', 'Exit 7 exit code: 7', '1:EOF', '2:EOF', 'Done'];
  assert.deepEqual(await all.heard(), expected);
});

test('one that could not be started says the same, with the error; only open streams are told of', async () => {
  await using all = connect(async () => {
    throw new Error('no such thing');
  });
  await all.begin([1]);
  all.stream.end();
  assert.deepEqual(await all.heard(), ['Started', 'Exit 255 no such thing', '1:EOF', 'Done']);
});

test('input arrives in order and ends; what comes for a process that has ended is dropped', async () => {
  await using all = connect(async (_options, io) => {
    io.onStarted?.(control);
    let text = '';
    for await (const chunk of io.stdin ?? []) {
      text += Buffer.from(chunk).toString();
      if (text.endsWith('!')) break;
    }
    await io.onStdout?.(bytes(text));
  });
  await all.begin([0, 1]);
  await all.say({ $case: 'File', value: { Fd: 0, EOF: false, Data: bytes('a') } });
  await all.say({ $case: 'File', value: { Fd: 0, EOF: false, Data: bytes('b!') } });
  const big = { $case: 'File', value: { Fd: 0, EOF: false, Data: new Uint8Array(3 << 20) } } as const;
  const heard = all.heard();
  await all.say(big);
  await all.say(big);
  await all.say(last);
  all.stream.end();
  assert.deepEqual(await heard, ['Started', '1:ab!', 'Exit 0 undefined', '1:EOF', 'Done']);
});

test('signals and sizes reach the process; what is said wrongly ends the stream and its processes', async () => {
  const said: string[] = [];
  let ended = '';
  await using all = connect(async (_options, io) => {
    io.onStarted?.({ ...control, signal: async (name) => void said.push(name) });
    await new Promise((resolve) => io.signal.addEventListener('abort', resolve));
    ended = io.signal.reason.message;
  });
  await all.begin([]);
  await all.say({ $case: 'Signal', value: { Name: 'HUP' } });
  await all.say({ $case: 'Signal', value: { Name: 'NO' } });
  await assert.rejects(all.heard(), /Unknown signal NO/);
  assert.deepEqual(said, ['SIGHUP']);
  assert.equal(ended, 'context canceled');
});

for (const [what, id, input, message] of [
  ['no process', '', last, /ProcessID required/],
  ['an unknown process', 'q', last, /IO for process "q" not found/],
  [
    'a stream that is not open',
    'p',
    { ...last, value: { ...last.value, Fd: 5 } },
    /fd 5 unavailable to write/,
  ],
] as const)
  test(`a message for ${what} is refused`, async () => {
    await using all = connect(async (_options, io) => {
      io.onStarted?.(control);
      await new Promise((resolve) => io.signal.addEventListener('abort', resolve));
    });
    await all.begin([0], 'p');
    await all.say(input, id);
    await assert.rejects(all.heard(), message);
  });
