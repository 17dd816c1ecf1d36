import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError, Code } from '../base/errors.ts';
import { ExporterDefinition, type FindExportersRequest } from '../pb/exporter.ts';
import { service } from '../rpc/server.ts';
import { sessionExporters } from './caller/exporters.ts';
import { withSession } from './harness.ts';

test('a client chooses exporters by the result and hears how they did', async () => {
  const asked: FindExportersRequest[] = [];
  const told: Record<string, string>[] = [];
  const offered = service(ExporterDefinition, {
    findExporters: async (request) => {
      asked.push(request);
      return { exporters: [{ Type: 'oci', Attrs: { name: 'x' } }] };
    },
    finalizeExport: async ({ exporterResponse }) => {
      told.push(exporterResponse);
      return {};
    },
  });
  await withSession([offered], async (session, signal) => {
    const exporters = sessionExporters(session);
    const result = { metadata: new Map([['key', Buffer.from('value')]]), refs: ['a', 'b'] };
    assert.deepEqual(await exporters.find(result, signal), [{ Type: 'oci', Attrs: { name: 'x' } }]);
    await exporters.finish({ digest: 'd' }, signal);
  });
  assert.equal(Buffer.from(asked[0]!.metadata.key!).toString(), 'value');
  assert.deepEqual(asked[0]!.refs, ['a', 'b']);
  assert.deepEqual(told, [{ digest: 'd' }]);
});

test('a client without exporters has none; what it refuses is an error', async () => {
  const nothing = { metadata: new Map<string, Uint8Array>(), refs: [] };
  await withSession([], async (session, signal) => {
    const exporters = sessionExporters(session);
    assert.deepEqual(await exporters.find(nothing, signal), []);
    await exporters.finish({}, signal);
  });
  const fail = (code: Code) => () => Promise.reject(new BuildError('no', { code }));
  const failing = service(ExporterDefinition, {
    findExporters: fail(Code.permissionDenied),
    finalizeExport: fail(Code.unknown),
  });
  await withSession([failing], async (session, signal) => {
    const exporters = sessionExporters(session);
    await assert.rejects(exporters.find(nothing, signal), { code: Code.permissionDenied });
    await assert.rejects(exporters.finish({}, signal), { message: 'no' });
  });
  const away = service(ExporterDefinition, {
    findExporters: fail(Code.unavailable),
    finalizeExport: fail(Code.unavailable),
  });
  await withSession([away], async (session, signal) => {
    await sessionExporters(session).finish({}, signal);
  });
});
