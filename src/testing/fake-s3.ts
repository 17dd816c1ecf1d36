import { createHash } from 'node:crypto';
import { type AwsCredentials, sha256Hex, signV4 } from '../remotecache/s3/sigv4.ts';
import { StandIn, type StandInAnswer, type StandInCall } from './stand-in.ts';

export interface FakeObject {
  readonly data: Buffer;
  readonly modifiedAt: Date;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface FakeS3Options {
  readonly region?: string;
  readonly credentials?: AwsCredentials;
  readonly buckets?: readonly string[];
  /** What one copy may copy, bytes. */
  readonly maxCopyBytes?: number;
}

export const TEST_KEYS: AwsCredentials = {
  accessKeyId: 'AKIATEST',
  secretAccessKey: 'test/secret',
  sessionToken: '',
};

/** Answers a request with an error, as S3 does. */
class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string, message: string = reason) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

interface S3Call {
  readonly method: string;
  readonly bucket: string;
  readonly key: string;
  readonly query: URLSearchParams;
  readonly headers: StandInCall['headers'];
  readonly body: Buffer;
}

/** A stand-in for S3 with buckets in memory, by their names in the path. It checks the signature of every request. */
export class FakeS3 extends StandIn {
  /** By bucket and key. */
  readonly objects = new Map<string, FakeObject>();
  /** Uploads that are neither complete nor aborted. */
  readonly uploads = new Map<string, Map<number, Buffer>>();
  credentials: AwsCredentials;
  readonly #options: FakeS3Options;
  #ids = 0;

  private constructor(options: FakeS3Options) {
    super();
    this.#options = options;
    this.credentials = options.credentials ?? TEST_KEYS;
  }

  static start(options: FakeS3Options = {}): Promise<FakeS3> {
    return new FakeS3(options).listen();
  }

  protected answer({ method, url, headers, body }: StandInCall): StandInAnswer {
    this.#checkSignature(method, url, headers, body);
    const [bucket = '', ...key] = url.pathname.slice(1).split('/').map(decodeURIComponent);
    if (!(this.#options.buckets ?? ['bucket']).includes(bucket))
      throw new Refusal(404, 'NoSuchBucket', 'The specified bucket does not exist');
    return this.#answer({ method, bucket, key: key.join('/'), query: url.searchParams, headers, body });
  }

  protected refuse(error: unknown): StandInAnswer {
    const { status, reason, message } =
      error instanceof Refusal ? error : new Refusal(500, 'InternalError', String(error));
    const body = `<?xml version="1.0"?>\n<Error><Code>${reason}</Code><Message>${message}</Message></Error>`;
    return { status, headers: { 'content-type': 'application/xml' }, body };
  }

  #checkSignature(method: string, url: URL, headers: StandInCall['headers'], body: Buffer): void {
    const given =
      /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, SignedHeaders=([^,]+), Signature=/.exec(
        headers.authorization ?? '',
      );
    if (!given) throw new Refusal(403, 'AccessDenied', 'Access Denied');
    const [, id, , region, names = ''] = given;
    const { credentials } = this;
    if (id !== credentials.accessKeyId)
      throw new Refusal(403, 'InvalidAccessKeyId', 'The key does not exist');
    if (region !== (this.#options.region ?? 'us-east-1'))
      throw new Refusal(
        400,
        'AuthorizationHeaderMalformed',
        `the region '${region}' is wrong</Message><Region>${this.#options.region ?? 'us-east-1'}</Region><Message>`,
      );
    if ((headers['x-amz-security-token'] ?? '') !== credentials.sessionToken)
      throw new Refusal(400, 'ExpiredToken');
    const payloadHash = String(headers['x-amz-content-sha256']);
    if (payloadHash !== sha256Hex(body)) throw new Refusal(400, 'XAmzContentSHA256Mismatch');
    const time = String(headers['x-amz-date']);
    const at = new Date(time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
    if (Math.abs(at.getTime() - Date.now()) > 15 * 60_000) throw new Refusal(403, 'RequestTimeTooSkewed');
    const own = new Set(['host', 'x-amz-date', 'x-amz-security-token']);
    const unsigned = Object.keys(headers).filter(
      (name) => name.startsWith('x-amz-') && !names.split(';').includes(name),
    );
    if (unsigned.length > 0) throw new Refusal(403, 'AccessDenied', `not signed: ${unsigned.join()}`);
    const signed = names
      .split(';')
      .filter((name) => !own.has(name))
      .map((name) => [name, String(headers[name])]);
    const right = signV4({ method, url, headers: Object.fromEntries(signed), payloadHash }, credentials, {
      region,
      service: 's3',
      at,
    });
    if (right.authorization !== headers.authorization) throw new Refusal(403, 'SignatureDoesNotMatch');
  }

  #answer(call: S3Call): StandInAnswer {
    const { method, bucket, key, query, headers } = call;
    const name = `${bucket}/${key}`;
    const uploadId = query.get('uploadId');
    if (method === 'POST' && query.has('uploads')) {
      const id = `upload-${++this.#ids}`;
      this.uploads.set(id, new Map());
      return {
        body: `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`,
      };
    }
    if (uploadId !== null) return this.#upload(uploadId, call);
    if (method === 'PUT') {
      const data = headers['x-amz-copy-source'] ? this.#copied(call) : call.body;
      const metadata = Object.entries(headers).filter(([header]) => header.startsWith('x-amz-meta-'));
      const kept = Object.fromEntries(metadata.map(([header, value]) => [header, String(value)]));
      this.objects.set(name, { data, modifiedAt: new Date(), metadata: kept });
      return {
        headers: { etag: etag(data) },
        body: headers['x-amz-copy-source'] ? '<CopyObjectResult/>' : '',
      };
    }
    const object = this.#object(name);
    const common = {
      etag: etag(object.data),
      'last-modified': object.modifiedAt.toUTCString(),
      ...object.metadata,
    };
    const from = /^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1];
    if (from === undefined)
      return { headers: { ...common, 'content-length': String(object.data.length) }, body: object.data };
    const part = object.data.subarray(Number(from));
    const range = `bytes ${from}-${object.data.length - 1}/${object.data.length}`;
    return {
      status: 206,
      headers: { ...common, 'content-range': range, 'content-length': String(part.length) },
      body: part,
    };
  }

  #upload(id: string, { method, bucket, key, query, headers, body }: S3Call): StandInAnswer {
    const parts = this.uploads.get(id);
    if (!parts) throw new Refusal(404, 'NoSuchUpload');
    if (method === 'DELETE') {
      this.uploads.delete(id);
      return { status: 204 };
    }
    if (method === 'PUT') {
      const data = headers['x-amz-copy-source'] ? this.#copied({ headers } as S3Call) : body;
      parts.set(Number(query.get('partNumber')), data);
      return {
        headers: { etag: etag(data) },
        body: `<CopyPartResult><ETag>${etag(data).replaceAll('"', '&quot;')}</ETag></CopyPartResult>`,
      };
    }
    const listed = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber><ETag>([^<]*)<\/ETag>/g)];
    const whole = listed.map(([, number, tag]) => {
      const part = parts.get(Number(number));
      if (!part || etag(part) !== tag?.replaceAll('&#34;', '"')) throw new Refusal(400, 'InvalidPart');
      return part;
    });
    if (whole.length === 0) throw new Refusal(400, 'MalformedXML');
    this.uploads.delete(id);
    this.objects.set(`${bucket}/${key}`, {
      data: Buffer.concat(whole),
      modifiedAt: new Date(),
      metadata: {},
    });
    return { body: '<CompleteMultipartUploadResult/>' };
  }

  #copied({ headers }: S3Call): Buffer {
    const { data } = this.#object(decodeURIComponent(String(headers['x-amz-copy-source'])));
    const range = /^bytes=(\d+)-(\d+)$/.exec(String(headers['x-amz-copy-source-range'] ?? ''));
    if (range) return data.subarray(Number(range[1]), Number(range[2]) + 1);
    if (data.length > (this.#options.maxCopyBytes ?? Number.POSITIVE_INFINITY))
      throw new Refusal(400, 'InvalidRequest');
    return data;
  }

  #object(name: string): FakeObject {
    const object = this.objects.get(name);
    if (!object) throw new Refusal(404, 'NoSuchKey', 'The specified key does not exist.');
    return object;
  }
}

function etag(data: Buffer): string {
  return `"${createHash('md5').update(data).digest('hex')}"`;
}
