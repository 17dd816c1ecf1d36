// Builds that a test drives as their client, over LLBBridge.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { connect } from '../../src/client/client.ts';
import { image } from '../../src/llb/source.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { ControlDefinition, SolveRequest as ControlSolve } from '../../src/pb/control.ts';
import { ExecMessage, LLBBridgeDefinition, SolveRequest } from '../../src/pb/gateway.ts';
import { Metadata } from '../../src/rpc/metadata.ts';
import type { CallOptions, Client } from '../../src/rpc/types.ts';
import type { Daemon } from './harness.ts';

export type Bridge = Client<typeof LLBBridgeDefinition>;

/** Runs `work` as the client of a build; `root` is a busybox. */
export async function inBuild(
  daemon: Daemon,
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

export interface Ended {
  out: string;
  code: number;
}

/** Starts a process on a stream of its own. */
export function start(
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
