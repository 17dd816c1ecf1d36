import { sharedKeyAuthorization } from '../remotecache/azblob/shared-key.ts';
import { StandIn, type StandInAnswer, type StandInCall } from './stand-in.ts';

export const TEST_ACCOUNT = { name: 'account', key: Buffer.from('test secret').toString('base64') };

class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string) {
    super(`${reason} it is.\nRequestId:1`);
    this.status = status;
    this.reason = reason;
  }
}

/** A stand-in for Azure's blob storage, one account in memory. It checks the signature, or token, of every request. */
export class FakeAzblob extends StandIn {
  /** Blobs by container and name. */
  readonly containers = new Map<string, Map<string, Buffer>>();
  /** Blocks that are in no blob yet, by container, name and id. */
  readonly blocks = new Map<string, Buffer>();
  /** The token that is good, where one is used. */
  token = 'good';

  static start(): Promise<FakeAzblob> {
    return new FakeAzblob().listen();
  }

  protected refuse(error: unknown): StandInAnswer {
    const { status, reason, message } = error instanceof Refusal ? error : new Refusal(500, String(error));
    const body = `<Error><Code>${reason}</Code><Message>${message}</Message></Error>`;
    return { status, headers: { 'x-ms-error-code': reason }, body };
  }

  #check({ method, url, headers }: StandInCall): void {
    const { authorization = '' } = headers;
    if (headers['x-ms-version'] === undefined) throw new Refusal(400, 'MissingRequiredHeader');
    if (authorization.startsWith('Bearer ')) {
      if (authorization !== `Bearer ${this.token}`) throw new Refusal(401, 'InvalidAuthenticationInfo');
      return;
    }
    const plain = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
    if (Math.abs(Date.parse(plain['x-ms-date'] ?? '') - Date.now()) > 15 * 60_000)
      throw new Refusal(403, 'AuthenticationFailed');
    const right = sharedKeyAuthorization(
      { method, url, headers: plain },
      TEST_ACCOUNT.name,
      TEST_ACCOUNT.key,
    );
    if (authorization !== right) throw new Refusal(403, 'AuthenticationFailed');
  }

  protected answer(call: StandInCall): StandInAnswer {
    this.#check(call);
    const { method, url, headers, body } = call;
    const [account, container = '', ...parts] = url.pathname.slice(1).split('/').map(decodeURIComponent);
    if (account !== TEST_ACCOUNT.name) throw new Refusal(404, 'ResourceNotFound');
    const blobs = this.containers.get(container);
    if (url.searchParams.get('restype') === 'container') {
      if (method === 'GET' && !blobs) throw new Refusal(404, 'ContainerNotFound');
      if (method === 'PUT' && blobs) throw new Refusal(409, 'ContainerAlreadyExists');
      if (method === 'PUT') this.containers.set(container, new Map());
      return { status: method === 'PUT' ? 201 : 200 };
    }
    if (!blobs) throw new Refusal(404, 'ContainerNotFound');
    const name = parts.join('/');
    if (method === 'PUT') return this.#put(call, blobs, container, name, body);
    const data = blobs.get(name);
    if (!data) throw new Refusal(404, 'BlobNotFound');
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    const rest = data.subarray(from);
    const length = { 'content-length': String(rest.length) };
    if (from === 0) return { headers: length, body: rest };
    const range = `bytes ${from}-${data.length - 1}/${data.length}`;
    return { status: 206, headers: { ...length, 'content-range': range }, body: rest };
  }

  #put(
    { url, headers }: StandInCall,
    blobs: Map<string, Buffer>,
    container: string,
    name: string,
    body: Buffer,
  ): StandInAnswer {
    const kind = url.searchParams.get('comp');
    const block = (id: string | null | undefined): string => `${container}/${name} ${id}`;
    if (kind === 'block') {
      this.blocks.set(block(url.searchParams.get('blockid')), body);
      return { status: 201 };
    }
    if (headers['if-none-match'] === '*' && blobs.has(name)) throw new Refusal(409, 'BlobAlreadyExists');
    if (kind === 'blocklist') {
      const ids = [...body.toString().matchAll(/<Latest>([^<]*)<\/Latest>/g)].map(([, id]) => block(id));
      const data = ids.map((id) => this.blocks.get(id));
      if (ids.length === 0 || data.includes(undefined)) throw new Refusal(400, 'InvalidBlockList');
      blobs.set(name, Buffer.concat(data as Buffer[]));
      for (const id of ids) this.blocks.delete(id);
      return { status: 201 };
    }
    if (headers['x-ms-blob-type'] !== 'BlockBlob') throw new Refusal(400, 'InvalidHeaderValue');
    blobs.set(name, body);
    return { status: 201 };
  }
}
