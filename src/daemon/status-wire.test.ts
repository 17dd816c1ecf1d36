import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { StatusResponse } from '../pb/control.ts';
import type { VertexWarning } from '../solver/types.ts';
import { statusToWire } from './status-wire.ts';

/** What clients accept as one message. */
const LIMIT = 4 << 20;

test('logs and warnings are cut into messages that clients accept', () => {
  const vertex = digestOf('x');
  const warning = (at: number): VertexWarning => ({
    vertex,
    level: 1,
    short: Buffer.from(`warning ${at}`),
    detail: [],
    url: '',
    sourceInfo: { filename: 'Dockerfile', data: Buffer.alloc(100_000), language: 'Dockerfile' },
    ranges: [],
  });
  const log = { vertex, stream: 1 as const, data: Buffer.alloc(900_000), timestamp: 1n };
  const status = {
    vertexes: [{ digest: vertex, inputs: [], name: 'n', cached: false, error: '' }],
    statuses: [],
    logs: [log, log, log],
    warnings: Array.from({ length: 100 }, (_, at) => warning(at)),
  };
  const messages = [...statusToWire(status)];
  for (const message of messages) assert.ok(StatusResponse.encode(message).finish().length < LIMIT);
  assert.equal(messages.flatMap(({ vertexes }) => vertexes).length, 1);
  assert.equal(messages.flatMap(({ logs }) => logs).length, 3);
  assert.deepEqual(
    messages.flatMap(({ warnings }) => warnings.map(({ short }) => Buffer.from(short).toString())),
    status.warnings.map(({ short }) => short.toString()),
  );
});
