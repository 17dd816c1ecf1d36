import type { SendOptions } from './sender.ts';
import type { TreeSource } from './source.ts';

/** How long a receiver may take to make the directories above the first file of a part, and ask for that file. */
const MAX_WAIT_MS = 30_000;

/** Sends one part; settles when the receiver has all of it. */
export type SendPart = (part: TreeSource, options: SendOptions & { signal: AbortSignal }) => Promise<void>;

export interface SideBySideOptions {
  readonly signal: AbortSignal;
  /** Bytes of all parts. */
  readonly onProgress?: (bytes: number, done: boolean) => void;
}

/**
 * Sends the parts of a tree at once. Directories that parts have in common are made by the last of them, which gives
 * them their times when it ends: so it begins before the others, and ends after them.
 * @throws the first error of any part, after all have ended
 */
export async function sendSideBySide(
  parts: readonly TreeSource[],
  send: SendPart,
  options: SideBySideOptions,
): Promise<void> {
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const progress = totalOf(parts.length, options.onProgress);
  const running: Promise<void>[] = [];
  // What a part waits for at its end is begun after it.
  const complete = parts.map(() => Promise.withResolvers<void>());
  for (const { promise } of complete) promise.catch(() => {});
  const fail = (error: unknown): void => {
    failed.abort(error);
    for (const { reject } of complete) reject(failed.signal.reason);
  };
  for (let i = parts.length - 1; i >= 0 && !failed.signal.aborted; i--) {
    const made = Promise.withResolvers<void>();
    const before = complete[i - 1]?.promise;
    const sent = send(parts[i]!, {
      signal,
      onProgress: (bytes, done) => progress(i, bytes, done),
      onRequest: made.resolve,
      ...(before && { beforeEnd: before }),
    });
    running.push(sent.then(complete[i]!.resolve, fail));
    if (i > 0) await firstOf([made.promise, complete[i]!.promise], MAX_WAIT_MS);
  }
  await Promise.all(running);
  failed.signal.throwIfAborted();
}

/** Settles with the first of `promises`, whatever it says, or after a time. */
async function firstOf(promises: readonly Promise<void>[], limitMs: number): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, limitMs);
  await Promise.race([...promises, late.promise]).catch(() => {});
  clearTimeout(timer);
}

function totalOf(
  parts: number,
  onProgress: SideBySideOptions['onProgress'],
): (part: number, bytes: number, done: boolean) => void {
  const sent = new Array<number>(parts).fill(0);
  let open = parts;
  return (part, bytes, done) => {
    sent[part] = bytes;
    if (done) open--;
    onProgress?.(
      sent.reduce((sum, one) => sum + one, 0),
      open === 0,
    );
  };
}
