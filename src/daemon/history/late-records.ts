import type { BuildHistoryRecord } from '../../pb/control.ts';

const RETRY_MS = 5_000;
/** What comes on top is closed at the next start, as after a crash. */
const MAX_LATE = 100;

/** Records of builds that are over and could not be written, as on a full disk: tried again until they can. */
export class LateRecords {
  readonly #write: (record: BuildHistoryRecord) => void;
  readonly #retryMs: number;
  readonly #records = new Map<string, BuildHistoryRecord>();
  #timer: NodeJS.Timeout | undefined;

  /** @param write throws when it cannot */
  constructor(write: (record: BuildHistoryRecord) => void, retryMs = RETRY_MS) {
    this.#write = write;
    this.#retryMs = retryMs;
  }

  add(record: BuildHistoryRecord): void {
    if (this.#records.size < MAX_LATE) this.#records.set(record.Ref, record);
    this.#timer ??= setTimeout(() => this.#again(), this.#retryMs).unref();
  }

  has(ref: string): boolean {
    return this.#records.has(ref);
  }

  forget(ref: string): void {
    this.#records.delete(ref);
  }

  #again(): void {
    this.#timer = undefined;
    if (!this.#flush()) this.#timer = setTimeout(() => this.#again(), this.#retryMs).unref();
  }

  #flush(): boolean {
    try {
      for (const record of this.#records.values()) {
        this.#write(record);
        this.#records.delete(record.Ref);
      }
      return true;
    } catch {
      return false; // said when it was tried first
    }
  }

  /** Tries for the last time. */
  close(): void {
    clearTimeout(this.#timer);
    this.#flush();
  }
}
