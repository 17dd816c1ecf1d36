import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { HealthDefinition } from '../pb/health.ts';
import { ServerReflectionDefinition, type ServerReflectionRequest } from '../pb/reflection_v1.ts';
import { ServerReflectionDefinition as AlphaDefinition } from '../pb/reflection_v1alpha.ts';
import { connectGrpc } from './client.ts';
import { healthService } from './health.ts';
import { reflectionServices } from './reflection.ts';
import { createGrpcServer, type GrpcServer } from './server.ts';

test('health and reflection tell what the server has', async () => {
  const server: GrpcServer = createGrpcServer({
    services: [healthService(['x.Y']), ...reflectionServices(() => server.serviceNames)],
  });
  const [near, far] = duplexPair();
  server.serve(far);
  using channel = connectGrpc(near);
  const health = channel.client(HealthDefinition);
  assert.equal((await health.check({ service: 'x.Y' })).status, 1);
  await assert.rejects(health.check({ service: 'z' }), { code: 5 });
  const names = [
    'grpc.health.v1.Health',
    'grpc.reflection.v1.ServerReflection',
    'grpc.reflection.v1alpha.ServerReflection',
  ];
  for (const definition of [ServerReflectionDefinition, AlphaDefinition]) {
    const call = channel.client(definition).serverReflectionInfo();
    const ask = async (messageRequest: ServerReflectionRequest['messageRequest']) => {
      await call.send({ host: '', messageRequest });
      return (await call.receive())?.messageResponse;
    };
    const listed = await ask({ $case: 'listServices', value: '' });
    assert.ok(listed?.$case === 'listServicesResponse');
    assert.deepEqual(
      listed.value.service.map((s) => s.name),
      names,
    );
    const files = await ask({ $case: 'fileContainingSymbol', value: 'moby.buildkit.v1.Control.Solve' });
    assert.ok(files?.$case === 'fileDescriptorResponse');
    const text = files.value.fileDescriptorProto.map((f) => Buffer.from(f).toString('latin1'));
    assert.ok(
      text[0]?.includes('moby.buildkit.v1') &&
        text.some((t) => t.includes('google/protobuf/timestamp.proto')),
    );
    assert.equal((await ask({ $case: 'fileByFilename', value: 'no.proto' }))?.$case, 'errorResponse');
    call.end();
    assert.equal(await call.receive(), undefined);
  }
  await server.close({ graceMs: 100 });
});
