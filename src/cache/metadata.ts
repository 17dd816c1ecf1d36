import type { RecordType } from './ref.ts';

/**
 * Metadata of one record: fixed fields and free string keys. Every key is searchable by value
 * (`RefManager.search`), e.g. `local-shared-key`, `cache-dir`, `http-url`. Reads and writes are synchronous.
 */
export interface RecordMetadata {
  readonly id: string;
  readonly createdAt: Date;
  readonly mutable: boolean;
  description: string;
  recordType: RecordType;
  /** Keep a mutable after its last handle is gone. */
  retain: boolean;
  readonly imageRefs: readonly string[];
  readonly lastUsedAt: Date | undefined;
  readonly usageCount: number;
  get(key: string): string | undefined;
  /** undefined removes the key. */
  set(key: string, value: string | undefined): void;
}
