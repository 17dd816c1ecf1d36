import { createHash, createHmac } from 'node:crypto';

/** What requests to AWS are signed with. */
export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** '' for keys that do not end. */
  readonly sessionToken: string;
  /** Unix milliseconds; undefined for keys that do not end. */
  readonly expiresAt?: number;
}

export interface SigningScope {
  readonly region: string;
  /** `s3`, `sts`. */
  readonly service: string;
  /** Time of the signature, good for 15 minutes. */
  readonly at: Date;
}

export interface RequestToSign {
  readonly method: string;
  /** Its path is encoded as `encodePath` does it. */
  readonly url: URL;
  /** All of them are signed; names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** SHA-256 of the body in hex, or `UNSIGNED-PAYLOAD`. */
  readonly payloadHash: string;
}

/** Signs a request (AWS Signature Version 4). Gives the headers to send, those of the request among them. */
export function signV4(
  { method, url, headers, payloadHash }: RequestToSign,
  credentials: AwsCredentials,
  { region, service, at }: SigningScope,
): Record<string, string> {
  const time = at.toISOString().replace(/[-:]|\.\d{3}/g, '');
  const day = time.slice(0, 8);
  const own: Record<string, string> = {
    ...headers,
    'x-amz-date': time,
    ...(credentials.sessionToken === '' ? {} : { 'x-amz-security-token': credentials.sessionToken }),
  };
  const signed: Record<string, string> = { ...own, host: url.host };
  const names = Object.keys(signed).sort();
  const canonical = [
    method,
    url.pathname,
    canonicalQuery(url),
    ...names.map((name) => `${name}:${signed[name]!.trim().replace(/ +/g, ' ')}`),
    '',
    names.join(';'),
    payloadHash,
  ].join('\n');
  const scope = `${day}/${region}/${service}/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', time, scope, sha256Hex(canonical)].join('\n');
  const key = [day, region, service, 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => hmac(secret, part),
    `AWS4${credentials.secretAccessKey}`,
  );
  const signature = hmac(key, text).toString('hex');
  return {
    ...own,
    authorization: `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`,
  };
}

export function sha256Hex(data: Uint8Array | string): string {
  return createHash('sha256').update(data).digest('hex');
}

/** RFC 3986: all but letters, digits and `-._~` is encoded. */
export function encodePart(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** The same for each part of a path. */
export function encodePath(path: string): string {
  return path.split('/').map(encodePart).join('/');
}

function canonicalQuery(url: URL): string {
  return [...url.searchParams]
    .map(([key, value]) => [encodePart(key), encodePart(value)] as const)
    .sort(([a, x], [b, y]) => (a === b ? (x < y ? -1 : 1) : a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${value}`)
    .join('&');
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
