import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect, type ServerHttp2Stream, performServerHandshake } from 'node:http2';
import { type Duplex, duplexPair } from 'node:stream';
import { describe, test } from 'node:test';
import { Http2Connection } from './connection.ts';
import { ErrorCode, FrameType, Flag, frame, PREFACE, words } from './frames.ts';
import { HeaderEncoder } from './hpack.ts';
import type { ConnectionOptions } from './options.ts';
import type { Http2Stream } from './stream.ts';

const OPTIONS: ConnectionOptions = {
  streamWindowBytes: 100_000,
  connectionWindowBytes: 300_000,
  maxFrameBytes: 1 << 15,
  maxHeaderBytes: 1 << 20,
  maxHeaderPairs: 10_000,
  maxStreams: 5,
  maxUnsentAnswerBytes: 1 << 16,
};
const REQUEST = [':method', 'POST', ':scheme', 'http', ':path', '/x', ':authority', 'localhost'];

interface Seen {
  readonly headers: (readonly string[])[];
  readonly closed: Promise<number | undefined>;
  /** Everything that comes until the end. */
  body(): Promise<Buffer>;
}

/** Watches a stream of ours. */
function watch(stream: Http2Stream): Seen {
  const headers: (readonly string[])[] = [];
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  let wake = (): void => {};
  stream.events = {
    headers: (list) => headers.push(list),
    readable: () => wake(),
    closed: (code) => {
      resolve(code);
      wake();
    },
  };
  const body = async (): Promise<Buffer> => {
    const parts: Buffer[] = [];
    for (;;) {
      const part = stream.read();
      if (part) parts.push(Buffer.from(part));
      else if (stream.ended) return Buffer.concat(parts);
      else await new Promise<void>((done) => (wake = done));
    }
  };
  return { headers, closed: promise, body };
}

const isPattern = (bytes: Buffer): boolean => bytes.every((byte, i) => byte === i % 251);
const pattern = (size: number): Buffer => Buffer.from(Uint8Array.from({ length: size }, (_, i) => i % 251));

describe('with another implementation at the other end', () => {
  /** Node's server, which echoes, and a client of ours. */
  function toNode(
    onStream: (stream: ServerHttp2Stream, raw: string[]) => void,
    settings = {},
  ): Http2Connection {
    const [a, b] = duplexPair();
    const server = performServerHandshake(a, { settings, maxHeaderListPairs: 5000 });
    server.on('stream', (stream, _headers, _flags, raw: string[]) => onStream(stream, raw));
    server.on('error', () => {});
    return new Http2Connection(b, OPTIONS);
  }

  test('a client: bodies larger than every window, trailers, long header blocks', async () => {
    const connection = toNode((stream, raw) => {
      stream.respond({ ':status': 200, 'x-pairs': String(raw.length / 2) }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.pipe(stream);
    });
    const many = Array.from({ length: 1000 }, (_, i) => ['x-value', `value ${i}`]).flat();
    const sent = pattern(2_000_000);
    const streams = [0, 1, 2].map(() => connection.open([...REQUEST, ...many]));
    const seen = streams.map(watch);
    let written = 0;
    for (const stream of streams) {
      for (let at = 0; at < sent.length; at += 70_001)
        stream.write(sent.subarray(at, at + 70_001), () => written++);
      stream.end();
    }
    for (const one of seen) {
      const body = await one.body();
      assert.equal(body.length, sent.length);
      assert.ok(isPattern(body));
      assert.deepEqual(one.headers[0]?.slice(0, 4), [':status', '200', 'x-pairs', '1004']);
      assert.deepEqual(one.headers.at(-1), ['grpc-status', '0']);
      assert.equal(await one.closed, 0);
    }
    assert.equal(written, 3 * 29);
    connection.close();
    assert.equal(await connection.closed, undefined);
  });

  test('a client waits while the server has no room for more streams', async () => {
    let open = 0;
    let most = 0;
    const connection = toNode(
      (stream) => {
        most = Math.max(most, ++open);
        stream.resume();
        stream.on('end', () =>
          setTimeout(() => {
            open--;
            stream.respond({ ':status': 200 }, { endStream: true });
          }, 1),
        );
      },
      { maxConcurrentStreams: 2 },
    );
    await new Promise((done) => setImmediate(done));
    const seen = Array.from({ length: 9 }, () => {
      const stream = connection.open(REQUEST);
      stream.end();
      return watch(stream);
    });
    const given = connection.open(REQUEST);
    given.reset(ErrorCode.cancel);
    for (const one of seen) assert.equal(await one.closed, 0);
    assert.ok(most <= 2, `${most} at once`);
    connection.destroy();
  });

  test('resets in both directions carry their code', async () => {
    const codes: number[] = [];
    const connection = toNode((stream, raw) => {
      stream.on('error', () => {});
      stream.on('close', () => codes.push(stream.rstCode));
      if (raw.includes('reset')) stream.close(11);
    });
    const theirs = watch(connection.open([...REQUEST, 'x-do', 'reset']));
    assert.equal(await theirs.closed, 11);
    const stream = connection.open(REQUEST);
    const ours = watch(stream);
    await new Promise((done) => setTimeout(done, 20));
    stream.reset(ErrorCode.cancel);
    assert.equal(await ours.closed, ErrorCode.cancel);
    while (codes.length < 2) await new Promise((done) => setTimeout(done, 5));
    assert.deepEqual(codes, [11, 8]);
    connection.destroy();
  });

  test('a server: request, answer, trailers, and its limit of streams', async () => {
    const [a, b] = duplexPair();
    const streams: Http2Stream[] = [];
    new Http2Connection(a, {
      ...OPTIONS,
      onStream: (stream) => {
        streams.push(stream);
        const seen = watch(stream);
        stream.headers([':status', '200', 'x-a', 'b']);
        seen.body().then((body) => {
          stream.write(body);
          stream.end(['x-size', String(body.length)]);
        });
      },
    });
    const client: ClientHttp2Session = connect('http://localhost', { createConnection: () => b });
    const call = client.request({ ':method': 'POST', ':path': '/x' });
    const trailers = once(call, 'trailers');
    const sent = pattern(1_000_000);
    call.end(sent);
    const parts: Buffer[] = [];
    for await (const part of call) parts.push(part);
    assert.ok(Buffer.concat(parts).equals(sent));
    assert.equal((await trailers)[0]['x-size'], '1000000');
    const more = Array.from({ length: 7 }, () => client.request({ ':method': 'POST', ':path': '/x' }));
    for (const one of more) one.on('error', () => {});
    await Promise.all(more.slice(0, 5).map((one) => once(one, 'response')));
    assert.equal(streams.length, 6, 'five may be open at once');
    client.destroy();
    await once(client, 'close');
  });
});

describe('broken peers', () => {
  /** A server of ours and a raw end. */
  function raw(): { peer: Duplex; connection: Http2Connection; streams: Http2Stream[] } {
    const [a, peer] = duplexPair();
    const streams: Http2Stream[] = [];
    const onStream = (stream: Http2Stream): void => {
      streams.push(stream);
      watch(stream);
    };
    const connection = new Http2Connection(a, { ...OPTIONS, onStream });
    peer.on('error', () => {});
    peer.write(PREFACE);
    return { peer, connection, streams };
  }
  const settings = frame(FrameType.settings, 0, 0, Buffer.alloc(0));
  const headers = (id: number, flags: number = Flag.endHeaders): Buffer =>
    frame(FrameType.headers, flags, id, new HeaderEncoder().encode(REQUEST));
  const data = (id: number, size: number, flags = 0): Buffer =>
    frame(FrameType.data, flags, id, Buffer.alloc(size));

  const WRONG: readonly (readonly [string, number, readonly Buffer[]])[] = [
    ['a frame before the settings', ErrorCode.protocolError, [headers(1)]],
    ['a frame that is too long', ErrorCode.frameSizeError, [settings, headers(1), data(1, 40_000)]],
    ['settings cut short', ErrorCode.frameSizeError, [frame(FrameType.settings, 0, 0, Buffer.alloc(5))]],
    ['a request with an even number', ErrorCode.protocolError, [settings, headers(2)]],
    ['data of an idle stream', ErrorCode.protocolError, [settings, data(5, 1)]],
    ['data before a block is complete', ErrorCode.protocolError, [settings, headers(1, 0), data(1, 1)]],
    [
      'a continuation of nothing',
      ErrorCode.protocolError,
      [settings, frame(FrameType.continuation, 4, 1, Buffer.alloc(0))],
    ],
    ['data after the end', ErrorCode.streamClosed, [settings, headers(1, 5), data(1, 1)]],
    [
      'more than the window of a stream',
      ErrorCode.flowControlError,
      [settings, headers(1), ...[1, 2, 3, 4].map(() => data(1, 30_000))],
    ],
    [
      'padding longer than its frame',
      ErrorCode.protocolError,
      [settings, headers(1), frame(FrameType.data, Flag.padded, 1, Buffer.from([9, 0]))],
    ],
    [
      'a window update of nothing',
      ErrorCode.protocolError,
      [settings, frame(FrameType.windowUpdate, 0, 0, words(0))],
    ],
    [
      'a window that is too large',
      ErrorCode.flowControlError,
      [settings, frame(FrameType.windowUpdate, 0, 0, words(0x7fffffff))],
    ],
    ['a push', ErrorCode.protocolError, [settings, frame(FrameType.pushPromise, 4, 1, words(2))]],
    [
      'a block that is no block',
      ErrorCode.compressionError,
      [settings, frame(FrameType.headers, 4, 1, Buffer.from([0x80]))],
    ],
  ];

  for (const [what, code, frames] of WRONG)
    test(`${what} ends the connection with code ${code}`, async () => {
      const { peer, connection } = raw();
      for (const bytes of frames) peer.write(bytes);
      assert.ok((await connection.closed) instanceof Error);
      const all = await readAll(peer);
      const goaway = all.findLast((f) => f.type === FrameType.goaway);
      assert.equal(goaway?.payload.readUInt32BE(4), code, String(goaway?.payload));
    });

  test('pings of a peer that reads nothing are not answered for ever', async () => {
    const { peer, connection } = raw();
    peer.write(settings);
    const ping = frame(FrameType.ping, 0, 0, Buffer.alloc(8));
    const flood = Buffer.concat(Array.from({ length: 1000 }, () => ping));
    let over = false;
    connection.closed.then(() => (over = true));
    for (let i = 0; i < 1000 && !over; i++) {
      peer.write(flood);
      await new Promise((done) => setImmediate(done));
    }
    assert.match(String(await connection.closed), /asks and does not listen/);
  });

  test('data of a stream that was reset does not use the window up', async () => {
    const { peer, connection, streams } = raw();
    peer.resume();
    peer.write(settings);
    for (let id = 1; id < 41; id += 2) {
      peer.write(headers(id));
      while (streams.length < (id + 1) / 2) await new Promise((done) => setImmediate(done));
      streams.at(-1)?.reset(ErrorCode.cancel);
      peer.write(data(id, 30_000));
    }
    peer.write(frame(FrameType.data, Flag.padded, 39, Buffer.alloc(30_000)));
    peer.write(headers(101, 5));
    while (streams.length < 21) await new Promise((done) => setImmediate(done));
    assert.ok(connection.isOpen);
    connection.destroy();
  });

  test('random frames end in an answer or in the end of the connection', async () => {
    let seed = 7;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
      return (seed >> 8) % below;
    };
    for (let round = 0; round < 300; round++) {
      const { peer, connection, streams } = raw();
      peer.resume();
      peer.write(settings);
      for (let i = 0; i < 30; i++) {
        const payload = random(3)
          ? Buffer.from(Array.from({ length: random(30) }, () => random(256)))
          : headers(1).subarray(9);
        const bytes = frame(random(12), random(256) & 0x2d, random(8), payload);
        for (let at = 0; at < bytes.length; ) {
          const size = 1 + random(40);
          peer.write(bytes.subarray(at, at + size));
          at += size;
        }
      }
      await new Promise((done) => setImmediate(done));
      for (const stream of streams) stream.discard();
      connection.destroy();
      await connection.closed;
    }
  });
});

interface RawFrame {
  readonly type: number;
  readonly payload: Buffer;
}

async function readAll(peer: Duplex): Promise<RawFrame[]> {
  const parts: Buffer[] = [];
  for await (const part of peer) parts.push(part);
  const all = Buffer.concat(parts);
  const frames: RawFrame[] = [];
  for (let at = 0; at < all.length; ) {
    const length = all.readUIntBE(at, 3);
    frames.push({ type: all[at + 3] as number, payload: all.subarray(at + 9, at + 9 + length) });
    at += 9 + length;
  }
  return frames;
}
