/** An answer whose body is not read yet. Read it to the end or call `discard`. */
export abstract class HttpResponse {
  readonly status: number;
  readonly statusText: string;
  readonly method: string;
  /** After redirects. */
  readonly url: URL;

  constructor(status: number, statusText: string, method: string, url: URL) {
    this.status = status;
    this.statusText = statusText;
    this.method = method;
    this.url = url;
  }

  /** All lines of this name as one. */
  abstract header(name: string): string | undefined;

  /** Every header line of this name. */
  abstract headers(name: string): readonly string[];

  /** In chunks that belong to the taker. */
  abstract body(): AsyncGenerator<Uint8Array, void>;

  /** Reads a short rest, so that the connection stays usable, and drops a long one or an unfinished upload. */
  abstract discard(): Promise<void>;

  /** -1 when the server does not say. */
  get contentLength(): number {
    const text = this.header('content-length');
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : -1;
  }

  /** At most `limit` bytes of the body. */
  async bytes(limit: number): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this.body()) {
      chunks.push(chunk.subarray(0, limit - size));
      size += chunk.length;
      if (size >= limit) break;
    }
    return Buffer.concat(chunks);
  }
}
