import { closeSync, openSync, readSync } from 'node:fs';
import { BuildError, isCanceled } from '../../base/errors.ts';
import type { GrpcChannel } from '../../rpc/client.ts';
import { healthService } from '../../rpc/health.ts';
import { Metadata } from '../../rpc/metadata.ts';
import { createGrpcServer, type RegisteredService } from '../../rpc/server.ts';
import { duplexOf } from '../../rpc/tunnel.ts';
import { SESSION_ID, SESSION_METHOD, SESSION_SHARED_KEY, SessionControlDefinition } from '../wire.ts';

const ID_LENGTH = 25;

/** From the kernel itself: to load node:crypto takes a short command a tenth of its time. */
function randomBytes(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  const fd = openSync('/dev/urandom', 'r');
  try {
    for (let at = 0; at < size; ) at += readSync(fd, bytes, at, size - at, null);
  } finally {
    closeSync(fd);
  }
  return bytes;
}

/** 25 random characters of base 36. */
export function newSessionId(): string {
  const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz';
  let id = '';
  while (id.length < ID_LENGTH)
    for (const byte of randomBytes(ID_LENGTH))
      if (byte < 252 && id.length < ID_LENGTH) id += alphabet[byte % 36];
  return id;
}

export interface SessionHostOptions {
  /** What the client lends to the daemon; health checks are added. */
  readonly services: readonly RegisteredService[];
  readonly sharedKey?: string;
  readonly id?: string;
  readonly onCallError?: (path: string, error: BuildError) => void;
}

/** The client's end of a session: offers services to the daemon over one connection (FEATURES C1, C2). */
export class SessionHost {
  readonly id: string;
  readonly sharedKey: string;
  readonly #options: SessionHostOptions;

  constructor(options: SessionHostOptions) {
    this.id = options.id ?? newSessionId();
    this.sharedKey = options.sharedKey ?? '';
    this.#options = options;
  }

  /** Headers by which the daemon knows the session and what it offers. */
  metadata(): Metadata {
    const metadata = new Metadata().append(SESSION_ID, this.id).append(SESSION_SHARED_KEY, this.sharedKey);
    for (const { definition } of this.#services())
      for (const method of Object.values(definition.methods))
        metadata.append(SESSION_METHOD, `/${definition.fullName}/${method.name}`);
    return metadata;
  }

  #services(): readonly RegisteredService[] {
    return [healthService([]), ...this.#options.services];
  }

  /**
   * Serves the daemon until it ends the session or `signal` aborts, which is the usual end and no error.
   * @throws BuildError when the daemon refuses or drops the session
   */
  async run(channel: GrpcChannel, signal: AbortSignal): Promise<void> {
    const { onCallError } = this.#options;
    const server = createGrpcServer({
      services: this.#services(),
      ...(onCallError && { onCallError: (path, error) => onCallError(path, error) }),
    });
    const call = channel.client(SessionControlDefinition).session({ metadata: this.metadata(), signal });
    const tunnel = duplexOf(call);
    let failure: unknown;
    tunnel.on('error', (error) => {
      failure = error;
    });
    const connection = server.serve(tunnel);
    await connection.closed;
    tunnel.destroy();
    if (failure !== undefined && !signal.aborted && !isCanceled(failure)) throw BuildError.from(failure);
  }
}
