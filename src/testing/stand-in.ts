import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SeenRequest, TestServer } from './registry.ts';

/** A request that has arrived as a whole. */
export interface StandInCall {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

export interface StandInAnswer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
}

/** An HTTP server of this process that stands in for a service of others. */
export abstract class StandIn implements TestServer {
  readonly seen: SeenRequest[] = [];
  readonly #server = createServer((request, response) => void this.#serve(request, response));

  async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  protected abstract answer(call: StandInCall): StandInAnswer;

  /** What is said of an error of `answer`. */
  protected abstract refuse(error: unknown): StandInAnswer;

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request;
    this.seen.push({ method, url, headers });
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return; // the client has gone
    }
    const body = Buffer.concat(chunks);
    let given: StandInAnswer;
    try {
      given = this.answer({ method, url: new URL(url, `http://${headers.host}`), headers, body });
    } catch (error) {
      given = this.refuse(error);
    }
    response.writeHead(given.status ?? 200, given.headers);
    response.end(method === 'HEAD' ? undefined : given.body);
  }
}
