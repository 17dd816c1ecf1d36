import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { BuildError, Code, canceled } from '../base/errors.ts';
import { LLBBridgeDefinition, SolveRequest } from '../pb/gateway.ts';
import { connectGrpc } from '../rpc/client.ts';
import { Metadata } from '../rpc/metadata.ts';
import { createGrpcServer } from '../rpc/server.ts';
import { BuildRegistry } from './build-registry.ts';
import { type GatewayBuild, gatewayService } from './gateway.ts';

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
