import type { CallContext } from './requests.ts';

/** Where the service is, and the token for it, a secret. */
export interface ServiceAccess {
  readonly url: URL;
  readonly token: string;
}

/** What is put under a key; its size in bytes. `open` gives the bytes from `offset` on, also side by side. */
export interface Blob {
  readonly size: number;
  open(offset: number): AsyncIterable<Uint8Array>;
}

/** What was found for a key. */
export interface Entry {
  /** The whole key. */
  readonly key: string;
  /** Signed: a secret, and good for a while only. */
  readonly url: URL;
}

/** GitHub's cache service, in one of its versions (FEATURES K14, K15). Entries are written once and never changed. */
export interface CacheService {
  /** The newest entry whose key is, or starts with, `key`, in the first scope that has one. */
  find(key: string, context: CallContext): Promise<Entry | undefined>;
  /** Takes a key, and gives what sends its blob. @throws an error of `isTaken` */
  reserve(key: string, context: CallContext): Promise<Send>;
}

export type Send = (blob: Blob, context: CallContext) => Promise<void>;

/** Keeps the entries of this cache apart from those of other programs: sha256 of `|go-actionscache-1.0`. */
export const ENTRY_VERSION = '693bb7016429d80366022f036f84856888c9f13e00145f5f6f4dce303a38d6f2';
