import type { CacheCore } from '../cache/core.ts';
import type { RefManager } from '../cache/ref.ts';
import type { KeyStore } from '../solver/keystore.ts';
import type { Store } from '../store/store.ts';

export type FindingKind =
  | 'database'
  | 'record'
  | 'lease'
  | 'key'
  | 'snapshot'
  | 'blob'
  | 'index'
  | 'file'
  | 'build'
  | 'explanation';

/** Something that is not as it should be. */
export interface Finding {
  readonly kind: FindingKind;
  /** Its name or path. */
  readonly id: string;
  readonly problem: string;
  /** It wastes space or time, but nothing is lost. */
  readonly leftover?: boolean;
  readonly repair: () => void | Promise<void>;
}

export interface CheckParts {
  readonly store: Store;
  readonly refs: RefManager & { readonly core: CacheCore };
  readonly keys: Pick<KeyStore, 'resultIds' | 'releaseResult'>;
  /** Directory of the content indexes. */
  readonly indexDir: string;
}

export interface CheckOptions {
  /** Read every blob and index. */
  readonly deep: boolean;
  readonly signal: AbortSignal;
}

/** Looks for one kind of damage. What it says of a thing was true at that moment, whatever runs beside it. */
export type Check = (parts: CheckParts, options: CheckOptions) => AsyncIterable<Finding>;

/** Rows looked at before others get their turn. */
export const ROWS_PER_TURN = 64;
