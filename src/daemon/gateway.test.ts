import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { BuildError, Code, canceled } from '../base/errors.ts';
import type { Bridge } from '../frontend/bridge.ts';
import { LLBBridgeDefinition, SolveRequest } from '../pb/gateway.ts';
import { connectGrpc } from '../rpc/client.ts';
import { Metadata } from '../rpc/metadata.ts';
import { createGrpcServer } from '../rpc/server.ts';
import { BuildRegistry } from './build-registry.ts';
import { bridgeService, GatewayBuild, gatewayService } from './gateway.ts';

test('every call of the bridge names a build that runs, and tells errors with the codes of the protocol', async () => {
  let failure: BuildError | undefined;
  const builds = new BuildRegistry<GatewayBuild>();
  const server = createGrpcServer({ services: [gatewayService(builds, async () => [])] });
  const [near, far] = duplexPair();
  server.serve(far);
  const channel = connectGrpc(near);
  try {
    const bridge = channel.client(LLBBridgeDefinition);
    const ping = (id?: string) =>
      bridge.ping(
        {},
        id === undefined ? {} : { metadata: Metadata.of({ 'buildkit-controlapi-buildid': id }) },
      );
    await assert.rejects(ping(), /no buildid found in context/);
    {
      using _build = builds.register('here', {} as GatewayBuild);
      assert.ok((await ping('here')).LLBCaps.some(({ ID }) => ID === 'source.http'));
    }
    const build: GatewayBuild = Object.assign(Object.create(null), {
      bridge: { solve: () => Promise.reject(failure), failures: { describe: (error: unknown) => error } },
    });
    using _build = builds.register('fails', build);
    const solve = () =>
      bridge.solve(SolveRequest.fromPartial({}), {
        metadata: Metadata.of({ 'buildkit-controlapi-buildid': 'fails' }),
      });
    const codes = async (error: BuildError): Promise<unknown> => {
      failure = error;
      return solve().catch((e) => [e.code, e.message, e.details]);
    };
    const details = [{ type: 'errdefs.Vertex', value: { digest: 'sha256:aa' } }];
    const own = new BuildError('/x: not found', { code: Code.notFound, details });
    assert.deepEqual(
      await codes(own),
      [Code.unknown, '/x: not found', details],
      'clients would print our code',
    );
    const told = BuildError.wrap(new BuildError('no dir', { code: Code.notFound, told: true }), 'sync');
    assert.deepEqual(await codes(told), [Code.notFound, 'sync: no dir', []]);
    assert.deepEqual(await codes(canceled()), [Code.canceled, 'context canceled', []]);
  } finally {
    channel.destroy();
    await server.close({ graceMs: 100 });
  }
});

function outcomeOf({ outcome }: GatewayBuild) {
  if (outcome && 'result' in outcome) return outcome.result;
  assert.fail('there is no result');
}

test('a solve that is said to be the last gives the result of the build', async () => {
  const metadata = new Map([['own', Buffer.from('1')]]);
  const ref = { id: 'tree', definition: undefined };
  const bridge = {
    solve: async () => ({ ref, metadata }),
    failures: { keep: () => {}, describe: (error: unknown) => error },
    ref: () => ref,
  } as unknown as Bridge;
  const build = new GatewayBuild(bridge);
  const server = createGrpcServer({
    services: [
      bridgeService(
        async () => build,
        async () => [],
      ),
    ],
  });
  const [near, far] = duplexPair();
  server.serve(far);
  const channel = connectGrpc(near);
  try {
    const client = channel.client(LLBBridgeDefinition);
    const final = (attrs: string, Final = true) =>
      client.solve(SolveRequest.fromPartial({ Final, ExporterAttr: Buffer.from(attrs) }));
    assert.equal((await final('{}', false)).ref, 'tree');
    assert.equal(build.outcome, undefined);
    await assert.rejects(final('{'), /unexpected end of JSON input/);
    await assert.rejects(final('{"a":1}'), /no map of bytes: 1/);
    assert.equal(build.outcome, undefined);
    await final('{"own":"eA==","a":"YmM=","none":null}');
    const { ref: given, metadata: said } = await build.result;
    assert.equal(given, ref);
    const texts = [...said].map(([key, value]) => [key, Buffer.from(value).toString()]);
    assert.deepEqual(Object.fromEntries(texts), { own: '1', a: 'bc', none: '' });
    await final('{"a":"eA=="}');
    const latest = outcomeOf(build);
    assert.equal(Buffer.from(latest.metadata.get('a') ?? []).toString(), 'x');
    const result = { result: undefined, metadata: {}, attestations: {} };
    await assert.rejects(client.return({ result, error: undefined }), /gateway result is already set/);
  } finally {
    channel.destroy();
    await server.close({ graceMs: 100 });
  }
});
