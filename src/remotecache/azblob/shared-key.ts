import { createHmac } from 'node:crypto';

/** Version of the service's protocol. */
export const API_VERSION = '2021-12-02';

/** Headers that have a place of their own in what is signed, in that order. */
const STANDARD = [
  ...['content-encoding', 'content-language', 'content-length', 'content-md5', 'content-type', 'date'],
  ...['if-modified-since', 'if-match', 'if-none-match', 'if-unmodified-since', 'range'],
];

export interface KeyRequest {
  readonly method: string;
  readonly url: URL;
  /** Names in lower case, `x-ms-date` and, where there is a body, `content-length` among them. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Value of the Authorization header for a request (Azure Storage, "Authorize with Shared Key"). */
export function sharedKeyAuthorization(
  { method, url, headers }: KeyRequest,
  accountName: string,
  accountKey: string,
): string {
  const own = Object.keys(headers)
    .filter((name) => name.startsWith('x-ms-'))
    .sort()
    .map((name) => `${name}:${headers[name]!.trim()}`);
  const standard = STANDARD.map((name) => {
    const value = headers[name] ?? '';
    return name === 'content-length' && value === '0' ? '' : value;
  });
  const text = [method, ...standard, ...own, resourceOf(url, accountName)].join('\n');
  const key = Buffer.from(accountKey, 'base64');
  const signature = createHmac('sha256', key).update(text).digest('base64');
  return `SharedKey ${accountName}:${signature}`;
}

function resourceOf(url: URL, accountName: string): string {
  const values = new Map<string, string[]>();
  for (const [name, value] of url.searchParams) {
    const key = name.toLowerCase();
    values.set(key, [...(values.get(key) ?? []), value]);
  }
  const lines = [...values.keys()].sort().map((name) => `${name}:${values.get(name)!.sort().join(',')}`);
  return [`/${accountName}${url.pathname}`, ...lines].join('\n');
}
