import type { ArgPair } from '../instructions/types.ts';
import type { Variables } from '../expand.ts';
import type { Image } from './image.ts';

const COMMENT = 'buildkit.dockerfile.v0';

/** Adds the entry of one instruction; `suffix` marks the ones that BuildKit ran (FEATURES H52). */
export function addHistory(
  image: Image,
  text: string,
  made: { readonly layer: boolean; readonly suffix?: boolean },
  epoch: bigint | undefined,
): void {
  image.history.push({
    createdBy: made.suffix ? `${text} # buildkit` : text,
    author: '',
    comment: COMMENT,
    emptyLayer: !made.layer,
    ...(epoch === undefined ? {} : { created: epochTime(epoch) }),
  });
}

/** Years 0 to 9999: what an image can hold. */
const FIRST_SECOND = -62_167_219_200n;
const LAST_SECOND = 253_402_300_799n;

/** RFC 3339 of seconds since 1970; '' for a time that no image can hold, which fails when it is written. */
export function epochTime(seconds: bigint): string {
  if (seconds < FIRST_SECOND || seconds > LAST_SECOND) return '';
  return new Date(Number(seconds) * 1000).toISOString().replace(/\.000Z$/, 'Z');
}

/** `|N k=v … command`: what a RUN ran and the ARGs it saw. */
export function runHistory(
  command: readonly string[],
  args: readonly ArgPair[],
  variables: Variables,
): string {
  const values = new Map<string, string>();
  for (const { key, value } of args) values.set(key, variables.get(key) ?? value ?? '');
  const seen = [...values].map(([key, value]) => `${key}=${value}`);
  return [...(seen.length === 0 ? [] : [`|${seen.length}`]), ...seen, ...command].join(' ');
}
