import type { Duplex } from 'node:stream';
import { once } from 'node:events';
import { BuildError } from '../../base/errors.ts';
import type { AgentKey } from './ssh-keys.ts';
import { SshReader, sshString, sshUint32 } from './ssh-wire.ts';

/** Message numbers of the agent protocol (draft-ietf-sshm-ssh-agent). */
const FAILURE = 5;
const REQUEST_IDENTITIES = 11;
const IDENTITIES_ANSWER = 12;
const SIGN_REQUEST = 13;
const SIGN_RESPONSE = 14;
const MAX_MESSAGE_BYTES = 256 << 10;

/** Answers one request (its message number and body) with a message. */
export type Agent = (request: Buffer) => Promise<Buffer>;

/** An agent that holds `keys` in memory, lists them and signs with them; nothing else. */
export function keyAgent(keys: readonly AgentKey[]): Agent {
  return async (request) => {
    if (request[0] === REQUEST_IDENTITIES)
      return Buffer.concat([
        Buffer.of(IDENTITIES_ANSWER),
        sshUint32(keys.length),
        ...keys.flatMap((key) => [sshString(key.blob), sshString(key.comment)]),
      ]);
    if (request[0] !== SIGN_REQUEST) return Buffer.of(FAILURE);
    const body = new SshReader(request.subarray(1));
    const blob = body.string();
    const data = body.string();
    const flags = body.uint32();
    const key = keys.find((k) => k.blob.equals(blob));
    return key
      ? Buffer.concat([Buffer.of(SIGN_RESPONSE), sshString(key.sign(data, flags))])
      : Buffer.of(FAILURE);
  };
}

/** The agent behind `socket`, for listing and signing only: a build must not change the user's agent. */
export function readOnlyAgent(socket: Duplex): Agent {
  const answers = messages(socket)[Symbol.asyncIterator]();
  return async (request) => {
    if (request[0] !== REQUEST_IDENTITIES && request[0] !== SIGN_REQUEST) return Buffer.of(FAILURE);
    await write(socket, sshString(request));
    const { value, done } = await answers.next();
    if (done) throw new BuildError('ssh agent closed the connection');
    return value;
  };
}

/** Serves `agent` on a byte stream until its end. */
export async function serveAgent(agent: Agent, stream: Duplex): Promise<void> {
  for await (const request of messages(stream)) {
    const answer = await agent(request).catch((error: unknown) => {
      if (error instanceof RangeError) return Buffer.of(FAILURE);
      throw error;
    });
    await write(stream, sshString(answer));
  }
}

async function write(stream: Duplex, bytes: Buffer): Promise<void> {
  if (!stream.write(bytes)) await once(stream, 'drain');
}

/** Length-prefixed messages of a stream. */
async function* messages(stream: Duplex): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 4) {
      const size = rest.readUInt32BE(0);
      if (size === 0 || size > MAX_MESSAGE_BYTES) throw new BuildError(`ssh agent message of ${size} bytes`);
      if (rest.length < 4 + size) break;
      yield rest.subarray(4, 4 + size);
      rest = rest.subarray(4 + size);
    }
  }
}
