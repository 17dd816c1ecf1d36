import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { BuildError } from '../base/errors.ts';
import { LLBBridgeDefinition, PongResponse, type SolveRequest, SolveResponse } from '../pb/gateway.ts';
import { connectGrpc } from '../rpc/client.ts';
import { Metadata } from '../rpc/metadata.ts';
import { createGrpcServer, service } from '../rpc/server.ts';
import { runFrontendFor } from './gateway.ts';
import type { Frontend } from './types.ts';

/** Requests that a daemon of the time before lists of capabilities gets from `frontend`. */
async function atOldDaemon(frontend: Frontend, drivenByClient = false): Promise<SolveRequest[]> {
  const solved: SolveRequest[] = [];
  const refuse = () => Promise.reject(new BuildError('not in this version'));
  const methods = Object.keys(LLBBridgeDefinition.methods).map((name) => [name, refuse] as const);
  const bridge = {
    ...Object.fromEntries(methods),
    ping: async () => PongResponse.fromPartial({}),
    solve: async (request: SolveRequest) => {
      solved.push(request);
      return SolveResponse.fromPartial({ ref: `tree-${solved.length}` });
    },
  } as unknown as Parameters<typeof service<typeof LLBBridgeDefinition>>[1];
  const server = createGrpcServer({ services: [service(LLBBridgeDefinition, bridge)] });
  const [near, far] = duplexPair();
  server.serve(far);
  const channel = connectGrpc(near);
  const { signal } = new AbortController();
  try {
    const host = { channel, options: {}, sessionId: '', product: '', signal };
    const metadata = drivenByClient ? { metadata: Metadata.of({ id: 'x' }) } : {};
    await runFrontendFor({ ...host, ...metadata }, frontend);
    return solved;
  } finally {
    channel.destroy();
    await server.close({ graceMs: 100 });
  }
}

test('a daemon that knows no return gets the result by a last solve of the same', async () => {
  const solved = await atOldDaemon(async (gateway) => {
    const { ref } = await gateway.solve({ frontend: 'one' });
    await gateway.solve({ frontend: 'two' });
    return { ref, metadata: { a: 'bc' } };
  });
  assert.deepEqual(
    solved.map(({ Frontend, Final, ExporterAttr }) => [
      Frontend,
      Final,
      Buffer.from(ExporterAttr).toString(),
    ]),
    [
      ['one', false, '{}'],
      ['two', false, '{}'],
      ['one', true, '{"a":"YmM="}'],
    ],
  );
  const [empty] = await atOldDaemon(async () => undefined);
  assert.deepEqual([empty?.Final, empty?.Frontend, empty?.Definition], [true, '', undefined]);
});

test('what such a daemon cannot be told is refused', async () => {
  const several: Frontend = async (gateway) => {
    const { ref } = await gateway.solve({ frontend: 'one' });
    return { refs: { a: ref, b: ref } };
  };
  await assert.rejects(atOldDaemon(several), /requested feature "returnmap" is not supported/);
  await assert.rejects(
    atOldDaemon(async () => ({}), true),
    /requested feature "return" is not supported/,
  );
  const failing: Frontend = () => Promise.reject(new BuildError('of the frontend'));
  await assert.rejects(atOldDaemon(failing), /^BuildError: of the frontend$/);
});
