// Requests that make no sense, byte by byte: the daemon says so and goes on.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { after, before, test } from 'node:test';
import { SolveRequest } from '../../src/pb/control.ts';
import { Definition, Op } from '../../src/pb/ops.ts';
import { Daemon, digest } from './harness.ts';
import { type DaemonState, eventually, stateOf } from './state.ts';

let daemon: Daemon;
let start: DaemonState;

before(async () => {
  daemon = await Daemon.start();
  start = stateOf(daemon);
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
});

interface Answer {
  /** gRPC status; undefined when the connection or call ended without one. */
  readonly code: number | undefined;
  readonly message: string;
}

const ANSWER_LIMIT_MS = 15_000;

function frame(message: Uint8Array, length = message.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
}

/** Calls a method with bytes of our choice. */
async function callWith(method: string, body: Uint8Array): Promise<Answer> {
  const path = daemon.address.replace('unix://', '');
  const session = connectHttp2('http://localhost', { createConnection: () => connectSocket(path) });
  session.on('error', () => {}); // the call sees it
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method}: no answer`)), ANSWER_LIMIT_MS);
      const answer = (headers: IncomingHttpHeaders): void => {
        clearTimeout(timer);
        const code = headers['grpc-status'];
        const message = decodeURIComponent(String(headers['grpc-message'] ?? ''));
        resolve({ code: code === undefined ? undefined : Number(code), message });
      };
      const stream = session.request({
        ':method': 'POST',
        ':path': `/moby.buildkit.v1.Control/${method}`,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      stream.on('response', (headers) => headers['grpc-status'] !== undefined && answer(headers));
      stream.on('trailers', answer);
      stream.on('error', () => answer({}));
      stream.on('close', () => answer({}));
      stream.resume();
      stream.end(body);
    });
  } finally {
    session.destroy();
  }
}

async function solve(request: Parameters<typeof SolveRequest.fromPartial>[0]): Promise<Answer> {
  const message = SolveRequest.fromPartial({ Ref: randomBytes(12).toString('hex'), ...request });
  return await callWith('Solve', frame(SolveRequest.encode(message).finish()));
}

type OpParts = Parameters<typeof Op.fromPartial>[0];

/** Solves what `ops` say; the last one ends the definition. */
async function solveOps(...ops: readonly OpParts[]): Promise<Answer> {
  const def = ops.map((op) => Op.encode(Op.fromPartial(op)).finish());
  return await solve({ Definition: { def } });
}

function digestOf(op: OpParts): string {
  return digest(Op.encode(Op.fromPartial(op)).finish());
}

async function assertAnswers(): Promise<void> {
  const { code, stderr } = await daemon.buildctl(['debug', 'workers']);
  assert.equal(code, 0, stderr);
}

const mkfile = (input: bigint, output: bigint, path = '/f') => ({
  input,
  secondaryInput: -1n,
  output,
  action: { $case: 'mkfile' as const, value: { path, mode: 0o644, timestamp: -1n } },
});
const FILE: OpParts = { op: { $case: 'file', value: { actions: [mkfile(-1n, 0n)] } } };
const end = (of: string, index = 0n): OpParts => ({ inputs: [{ digest: of, index }] });

test('a definition that is right is solved', async () => {
  assert.deepEqual(await solveOps(FILE, end(digestOf(FILE))), { code: 0, message: '' });
});

test('a definition without steps is the empty tree, and no build that waits for its client', async () => {
  assert.deepEqual(await solve({ Definition: { def: [] } }), { code: 0, message: '' });
});

test('a truncated message is an error of its call', async () => {
  const whole = SolveRequest.encode(
    SolveRequest.fromPartial({ Ref: 'x'.repeat(40), Frontend: 'dockerfile.v0', FrontendAttrs: { a: 'b' } }),
  ).finish();
  for (const size of [1, 7, 41, whole.length - 1]) {
    const { code, message } = await callWith('Solve', frame(whole.subarray(0, size)));
    assert.equal(code, 13, `${size} bytes: ${message}`);
    assert.match(message, /error unmarshalling request/);
  }
  for (const noise of [
    Buffer.alloc(64, 0xff),
    Buffer.from([4, 1, 2]),
    Buffer.from([0, 0]),
    randomBytes(4096),
  ]) {
    const { code, message } = await callWith('Solve', frame(noise));
    assert.equal(code, 13, `${noise.toString('hex')}: ${message}`);
  }
  await assertAnswers();
});

test('a broken frame is an error of its call', async () => {
  const cut = await callWith('Solve', frame(Buffer.alloc(10), 100));
  assert.equal(cut.code, 13);
  assert.match(cut.message, /unexpected EOF|cardinality|ended/);
  const huge = await callWith('Solve', frame(Buffer.alloc(10), 0xffff_fff0));
  assert.equal(huge.code, 8);
  assert.match(huge.message, /larger than max/);
  const compressed = frame(Buffer.alloc(10));
  compressed[0] = 1;
  assert.equal((await callWith('Solve', compressed)).code, 12);
  assert.notEqual((await callWith('Solve', Buffer.alloc(3))).code, 0);
  assert.equal((await callWith('NoSuchMethod', frame(Buffer.alloc(0)))).code, 12);
  await assertAnswers();
});

test('bytes that are no HTTP/2 end their connection only', async () => {
  const path = daemon.address.replace('unix://', '');
  for (const noise of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), randomBytes(1000)]) {
    await new Promise<void>((resolve) => {
      const socket = connectSocket(path, () => socket.end(noise));
      socket.on('error', () => {}); // cut off by the daemon: what is wanted
      socket.on('close', () => resolve());
      socket.resume();
    });
  }
  await assertAnswers();
});

test('a definition with an op that cannot be read', async () => {
  const broken = Op.encode(Op.fromPartial(FILE)).finish().subarray(0, -3);
  const def = [broken, Op.encode(Op.fromPartial(end(digest(broken)))).finish()];
  const { code, message } = await solve({ Definition: { def } });
  assert.equal(code, 2, message);
  assert.match(message, /failed to parse llb proto op/);
});

test('a definition with missing inputs or in a circle', async () => {
  const absent = digest(Buffer.from('absent'));
  const missing = await solveOps(FILE, end(absent));
  assert.match(missing.message, new RegExp(`invalid missing input digest ${absent}`));
  // Digests make a circle of vertexes impossible: each of two that name one another names one that is not there.
  const one: OpParts = { ...FILE, inputs: [{ digest: absent, index: 0n }] };
  const two: OpParts = { ...FILE, inputs: [{ digest: digestOf(one), index: 0n }] };
  const circle = await solveOps(two, one, end(digestOf(two)));
  assert.match(circle.message, /invalid missing input digest/);
  const nothing = await solve({ Definition: { def: [new Uint8Array(0)] } });
  assert.notEqual(nothing.code, 0);
});

test('file actions in a circle', async () => {
  // Without inputs, index 1 is the second action's output.
  const actions = [mkfile(1n, -1n), mkfile(0n, 0n)];
  const op: OpParts = { op: { $case: 'file', value: { actions } } };
  const { code, message } = await solveOps(op, end(digestOf(op)));
  assert.notEqual(code, 0);
  assert.notEqual(message, '');
  const self: OpParts = { op: { $case: 'file', value: { actions: [mkfile(0n, 0n)] } } };
  assert.notEqual((await solveOps(self, end(digestOf(self)))).code, 0);
});

test('indexes that point nowhere', async () => {
  const cases: readonly (readonly [string, OpParts])[] = [
    ['an input of a file action', { op: { $case: 'file', value: { actions: [mkfile(77n, 0n)] } } }],
    [
      'two actions for one output',
      { op: { $case: 'file', value: { actions: [mkfile(-1n, 0n), mkfile(-1n, 0n)] } } },
    ],
    ['a negative input', { op: { $case: 'file', value: { actions: [mkfile(-7n, 0n)] } } }],
    ['an output left out', { op: { $case: 'file', value: { actions: [mkfile(-1n, 3n)] } } }],
    ['no file action', { op: { $case: 'file', value: { actions: [] } } }],
    ['an action of no kind', { op: { $case: 'file', value: { actions: [{ input: -1n, output: 0n }] } } }],
    ['a mount of an input that is not there', exec([{ input: 9n, dest: '/', output: 0n }])],
    ['a process without a root', exec([{ input: -1n, dest: '/x', output: 0n }])],
    ['a process without mounts', exec([])],
    ['a process without arguments', exec([{ input: -1n, dest: '/', output: 0n }], [])],
    ['a mount kind that is not known', exec([{ input: -1n, dest: '/', output: 0n, mountType: 99 as 0 }])],
    ['no op', { inputs: [], platform: { OS: 'linux', Architecture: 'amd64' } }],
    ['a source without a scheme', source('nothing')],
    ['a source of an unknown scheme', source('gopher://example.com')],
    ['a bad image reference', source('docker-image://UPPER CASE')],
    ['an image by a bad digest', source('docker-image://docker.io/library/x@sha256:123')],
    ['a build op', { op: { $case: 'build', value: { builder: -1n } } }],
  ];
  for (const [name, op] of cases) {
    const { code, message } = await solveOps(op, end(digestOf(op)));
    assert.ok(code !== undefined && code !== 0, `${name}: ${code} ${message}`);
    assert.doesNotMatch(message, /undefined|TypeError|Cannot read|is not a function|^$/, name);
  }
  const outOfRange = await solveOps(FILE, end(digestOf(FILE), 5n));
  assert.match(outOfRange.message, /output index|output 5/);
  await assertAnswers();
});

function exec(mounts: readonly object[], args: readonly string[] = ['/bin/true']): OpParts {
  const value = { meta: { args: [...args], cwd: '/' }, mounts: [...mounts] };
  return { op: { $case: 'exec', value } };
}

function source(identifier: string): OpParts {
  return { op: { $case: 'source', value: { identifier } } };
}

test('a request that asks for what is not there', async () => {
  const definition = Definition.fromPartial({
    def: [Op.encode(Op.fromPartial(FILE)).finish(), Op.encode(Op.fromPartial(end(digestOf(FILE)))).finish()],
  });
  const both = await solve({ Definition: definition, Frontend: 'dockerfile.v0' });
  assert.match(both.message, /both Definition and Frontend/);
  assert.match((await solve({ Frontend: 'no-such' })).message, /no-such/);
  const exporter = await solve({ Definition: definition, Exporters: [{ Type: 'no-such' }] });
  assert.match(exporter.message, /exporter "?no-such"? could not be found/);
  const entitled = await solve({ Definition: definition, Entitlements: ['no.such'] });
  assert.notEqual(entitled.code, 0);
  // No session stands behind it.
  const local = source('local://context');
  const orphan = await solveOps(local, end(digestOf(local)));
  assert.notEqual(orphan.code, 0);
  assert.match(orphan.message, /session/);
});

test('after all that nothing is left, and the daemon has not complained', async () => {
  await eventually(() => {
    const now = stateOf(daemon);
    assert.deepEqual({ ...now, leases: 0, snapshots: 0 }, { ...start, leases: 0, snapshots: 0 });
    assert.ok(now.leases - start.leases <= 2, 'the one result');
  });
  assert.doesNotMatch(daemon.log(), /level=error|TypeError|unhandled/i);
});
