import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError } from '../../base/errors.ts';
import { type CallContext, isTaken } from './requests.ts';
import type { Blob, CacheService, Entry, Send } from './service.ts';

/** How long a number that somebody else has taken is waited for. */
const LOCK_WAIT_MS = 15_000;
const LOCK_PAUSE_MS = 2_000;
/** Numbers that are left out then, since whoever took them is gone. */
const MAX_SKIPPED = 1000;

/**
 * An entry that changes, in a service whose entries do not: each state has the key with a higher number behind it,
 * `key#1`, `key#2` and so on, and the newest counts (FEATURES K13).
 */
export function findMutable(
  service: CacheService,
  key: string,
  context: CallContext,
): Promise<Entry | undefined> {
  return service.find(`${key}#`, context);
}

/** Makes `blob` the newest state. Two that do so at the same time come one after the other. */
export async function saveMutable(
  service: CacheService,
  key: string,
  blob: Blob,
  context: CallContext,
  pauseMs = LOCK_PAUSE_MS,
): Promise<void> {
  const send = await takeNumber(service, key, context, pauseMs);
  await send(blob, context);
}

async function takeNumber(
  service: CacheService,
  key: string,
  context: CallContext,
  pauseMs: number,
): Promise<Send> {
  const end = Date.now() + (LOCK_WAIT_MS * pauseMs) / LOCK_PAUSE_MS;
  let skipped = 0;
  for (;;) {
    const newest = await findMutable(service, key, context);
    const next = newest ? numberOf(newest, key) + 1 : 1;
    try {
      return await service.reserve(`${key}#${next + skipped}`, context);
    } catch (error) {
      if (!isTaken(error)) throw error;
      if (skipped >= MAX_SKIPPED) throw BuildError.wrap(error, `no number of ${key} is free`);
      if (Date.now() < end) await sleep(pauseMs, undefined, { signal: context.signal });
      else skipped++;
    }
  }
}

function numberOf({ key }: Entry, prefix: string): number {
  const text = key.slice(prefix.length + 1);
  if (!/^\d{1,15}$/.test(text))
    throw new BuildError(`failed to parse number of ${prefix} in ${JSON.stringify(key)}`);
  return Number(text);
}
