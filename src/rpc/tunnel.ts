import { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { BuildError } from '../base/errors.ts';
import { joinSmall } from './pieces.ts';
import type { MessageStream } from './types.ts';

/** Bytes per message that the tunnel writes; upstream packs about as much. */
const TUNNEL_MESSAGE_BYTES = 256 << 10;

interface Bytes {
  readonly data: Uint8Array;
}

interface BytesOut extends Bytes {
  readonly more?: readonly Uint8Array[];
}

/**
 * A byte stream over a call of BytesMessage messages, on either side of it: `Control.Session` and
 * ssh forwarding. Ending it half-closes the call; destroying it cancels the call. Nothing is read
 * from the call before the stream is read.
 */
export function duplexOf(call: MessageStream<Bytes, BytesOut>): Duplex {
  let ended = false;
  const duplex = new Duplex({
    allowHalfOpen: true,
    readableHighWaterMark: TUNNEL_MESSAGE_BYTES,
    writableHighWaterMark: TUNNEL_MESSAGE_BYTES,
    read() {
      pull(call).then(
        (chunk) => {
          ended = chunk === null;
          this.push(chunk);
        },
        (error: unknown) => this.destroy(BuildError.from(error)),
      );
    },
    write(chunk: Buffer, _encoding, done) {
      sendAll(call, [chunk]).then(() => done(), done);
    },
    writev(chunks, done) {
      sendAll(
        call,
        chunks.map((c) => c.chunk as Buffer),
      ).then(() => done(), done);
    },
    final(done) {
      call.end();
      done();
    },
    destroy(error, done) {
      if (!ended || error) call.cancel(error ?? undefined);
      done(error);
    },
  });
  return duplex;
}

async function pull(call: MessageStream<Bytes, unknown>): Promise<Buffer | null> {
  for (;;) {
    const message = await call.receive();
    if (message === undefined) return null;
    const { buffer, byteOffset, byteLength } = message.data;
    if (byteLength > 0) return Buffer.from(buffer, byteOffset, byteLength);
  }
}

/** Packs small chunks together and splits large ones. */
async function sendAll(call: MessageStream<unknown, BytesOut>, chunks: readonly Buffer[]): Promise<void> {
  let batch: Buffer[] = [];
  let size = 0;
  const flush = async (): Promise<void> => {
    if (size === 0) return;
    const whole = batch.length === 1 || call.takesPieces;
    const pieces = whole ? joinSmall(batch) : [Buffer.concat(batch, size)];
    const [data, ...more] = pieces as [Buffer, ...Buffer[]];
    batch = [];
    size = 0;
    await call.send({ data, more });
  };
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.byteLength; at += TUNNEL_MESSAGE_BYTES) {
      const part = chunk.subarray(at, at + TUNNEL_MESSAGE_BYTES);
      if (size + part.byteLength > TUNNEL_MESSAGE_BYTES) await flush();
      batch.push(part);
      size += part.byteLength;
    }
  }
  await flush();
}

/**
 * Carries bytes both ways between two streams until both directions have ended; the end of one direction is
 * passed on, and leaves the other open. An error on either side destroys both.
 */
export async function joinStreams(a: Duplex, b: Duplex): Promise<void> {
  try {
    await Promise.all([carry(a, b), carry(b, a)]);
  } catch (error) {
    a.destroy();
    b.destroy();
    throw error;
  }
}

async function carry(from: Duplex, to: Duplex): Promise<void> {
  for await (const chunk of from.iterator({ destroyOnReturn: false })) {
    if (to.destroyed) throw new BuildError('stream closed');
    if (!to.write(chunk)) await drained(to);
  }
  to.end();
  if (!to.writableFinished) await finished(to, { readable: false, cleanup: true });
}

function drained(stream: Duplex): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}
