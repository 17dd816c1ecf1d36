import { StatusError } from '../../registry/errors.ts';

/** A store of objects answered that it could not do something. */
export class StoreError extends StatusError {
  /** The store's own word for it (`NoSuchBucket`, `BlobNotFound`); '' when it gave none. */
  readonly reason: string;
  /** How long the store wants to be left alone, milliseconds. */
  readonly retryAfterMs: number;

  constructor(message: string, answer: StoreAnswer) {
    super(message, answer.status, '');
    this.reason = answer.reason;
    this.retryAfterMs = answer.retryAfterMs ?? 0;
  }
}

export interface StoreAnswer {
  readonly status: number;
  readonly reason: string;
  readonly retryAfterMs?: number;
}

/** The answer that an error comes from, or undefined. */
export function storeError(error: unknown): StoreError | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; depth++, at = at.cause)
    if (at instanceof StoreError) return at;
  return undefined;
}

/** Whether `error` is such an answer, of one of these reasons. */
export function isReason(error: unknown, ...reasons: readonly string[]): boolean {
  const found = storeError(error);
  return found !== undefined && reasons.includes(found.reason);
}

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };

/** Text of the first element of this name in a flat XML document, or ''. */
export function xmlText(xml: string, name: string): string {
  const text = new RegExp(`<${name}(?:\\s[^>]*)?>([^<]*)</${name}>`).exec(xml)?.[1] ?? '';
  return text.replace(/&(#x?[0-9a-fA-F]+|\w+);/g, (whole, entity: string) => {
    if (!entity.startsWith('#')) return ENTITIES[entity] ?? whole;
    const point = entity[1] === 'x' ? Number.parseInt(entity.slice(2), 16) : Number(entity.slice(1));
    return point > 0 && point < 0x110000 ? String.fromCodePoint(point) : whole;
  });
}

export function escapeXml(text: string): string {
  return text.replace(/[<>"'&]/g, (char) => `&#${char.charCodeAt(0)};`);
}
