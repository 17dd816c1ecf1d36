import { readFileSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { BuildError, invalidArgument } from '../../base/errors.ts';
import { type RegisteredService, service } from '../../rpc/server.ts';
import { duplexOf, joinStreams } from '../../rpc/tunnel.ts';
import { systemErrorText } from '../../sys/errno.ts';
import { DEFAULT_SSH_ID, SSH_ID, SSHDefinition } from '../wire.ts';
import { keyAgent, readOnlyAgent, serveAgent } from './ssh-agent.ts';
import { parsePrivateKey } from './ssh-keys.ts';

const MAX_KEY_BYTES = 100 << 10;
const DIAL_TIMEOUT_MS = 2_000;

export interface SshSource {
  /** `default` when empty. */
  readonly id: string;
  /** One socket, or private key files. None means `agentSocket`. */
  readonly paths: readonly string[];
  /** Any unix socket, byte for byte. */
  readonly raw?: boolean;
  /** Private keys themselves. */
  readonly keys?: readonly Uint8Array[];
}

/** Serves one forwarded connection until either side ends it. */
type Forward = (stream: Duplex) => Promise<void>;

/**
 * Lends ssh agents, keys and sockets (FEATURES C20).
 * @param agentSocket the user's own agent (SSH_AUTH_SOCK), or undefined
 * @throws BuildError for repeated ids, missing files, protected keys and mixtures
 */
export function sshService(
  sources: readonly SshSource[],
  agentSocket: string | undefined,
): RegisteredService {
  const forwards = new Map<string, Forward>();
  for (const source of sources) {
    const id = source.id === '' ? DEFAULT_SSH_ID : source.id;
    if (forwards.has(id)) throw invalidArgument(`duplicate agent ID ${JSON.stringify(id)}`);
    try {
      forwards.set(id, forwardOf(source, agentSocket));
    } catch (error) {
      const shown = `{${id} [${source.paths.join(' ')}] ${source.raw ?? false}}`;
      const each =
        source.paths.length > 0 ? `: failed to convert agent config for ID: ${JSON.stringify(id)}` : '';
      throw BuildError.wrap(error, `failed to convert agent config ${shown}${each}`);
    }
  }
  const find = (id: string): Forward => {
    const forward = forwards.get(id === '' ? DEFAULT_SSH_ID : id);
    if (!forward) throw new BuildError(`unset ssh forward key ${id}`);
    return forward;
  };
  return service(SSHDefinition, {
    checkAgent: async ({ ID }) => {
      find(ID);
      return {};
    },
    forwardAgent: async (stream, call) => {
      const tunnel = duplexOf(stream);
      await find(call.metadata.get(SSH_ID) ?? '')(tunnel);
      // The call ends with this function: what was written must be on its way first.
      if (!tunnel.writableEnded) tunnel.end();
      if (!tunnel.writableFinished) await finished(tunnel, { readable: false });
    },
  });
}

function forwardOf(source: SshSource, agentSocket: string | undefined): Forward {
  if (source.raw && source.paths.length !== 1) throw invalidArgument('raw mode must supply exactly one path');
  const given = source.paths.filter((path) => path !== '');
  const keys = (source.keys ?? []).map((text) => parsePrivateKey(Buffer.from(text), 'private key'));
  const paths = given.length > 0 || keys.length > 0 ? given : [agentSocket ?? ''];
  if (paths[0] === '') throw new BuildError('invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set');
  let socket: string | undefined;
  for (const path of paths) {
    if (socket !== undefined) throw invalidArgument('only single socket allowed');
    if (isSocket(path)) socket = path;
    else if (source.raw) throw invalidArgument('raw mode only supported with socket paths');
    else keys.push(parsePrivateKey(readKeyFile(path), path));
  }
  if (socket === undefined) return (stream) => serveAgent(keyAgent(keys), stream);
  if (keys.length > 0) throw invalidArgument('invalid combination of keys and sockets');
  const path = socket;
  return source.raw ? (stream) => forwardBytes(path, stream) : (stream) => forwardAgentSocket(path, stream);
}

function isSocket(path: string): boolean {
  try {
    return statSync(path).isSocket();
  } catch (error) {
    throw new BuildError(systemErrorText(error), { cause: error });
  }
}

function readKeyFile(path: string): Buffer {
  const { size } = statSync(path);
  if (size > MAX_KEY_BYTES) throw invalidArgument(`failed to read ${path}: no private key has ${size} bytes`);
  return readFileSync(path);
}

async function dial(path: string): Promise<Socket> {
  return await new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    const fail = (why: string): void => {
      socket.destroy();
      reject(new BuildError(`failed to connect to ${path}: ${why}`));
    };
    const timer = setTimeout(() => fail('timed out'), DIAL_TIMEOUT_MS);
    socket.once('error', (error) => {
      clearTimeout(timer);
      fail(error.message);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.removeAllListeners('error');
      socket.on('error', () => {}); // seen by whoever reads or writes
      resolve(socket);
    });
  });
}

async function forwardBytes(path: string, stream: Duplex): Promise<void> {
  const socket = await dial(path);
  try {
    await joinStreams(stream, socket);
  } finally {
    socket.destroy();
  }
}

async function forwardAgentSocket(path: string, stream: Duplex): Promise<void> {
  const socket = await dial(path);
  try {
    await serveAgent(readOnlyAgent(socket), stream);
  } finally {
    socket.destroy();
  }
}
