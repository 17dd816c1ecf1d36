import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { LLBBridgeDefinition } from '../pb/gateway.ts';
import { connectGrpc } from '../rpc/client.ts';
import { Metadata } from '../rpc/metadata.ts';
import { createGrpcServer } from '../rpc/server.ts';
import { BuildRegistry } from './build-registry.ts';
import { type GatewayBuild, gatewayService } from './gateway.ts';

test('every call of the bridge names a build that runs', async () => {
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
  } finally {
    channel.destroy();
    await server.close({ graceMs: 100 });
  }
});
