import { redactCredentials } from '../../giturl/redact.ts';

/** Parts of the names of attributes that hold secrets: keys of cache storages and the like. */
const SECRET = /secret|token|password|access_?key|account_?key|signature/i;
const MASK = 'xxxxx';

/** Attributes of a request as a record keeps them: credentials in addresses and keys of caches are masked. */
export function recordAttrs(attrs: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(attrs).map(([key, value]) => [
      key,
      key === 'cache-imports'
        ? withoutKeys(value)
        : SECRET.test(key) && isPlain(key)
          ? MASK
          : redactCredentials(value),
    ]),
  );
}

/** `build-arg:TOKEN` is no secret: it is in the image, too. */
function isPlain(key: string): boolean {
  return !key.includes(':');
}

/** `cache-imports` is a JSON list of caches with their attributes. */
function withoutKeys(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), (key, value: unknown) =>
      typeof value === 'string' && SECRET.test(key) ? MASK : value,
    );
  } catch {
    return ''; // nothing that anybody reads
  }
}
