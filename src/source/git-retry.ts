import { setTimeout as sleep } from 'node:timers/promises';

/** Pauses between the attempts of a command that asks a server, milliseconds. */
const WAITS_MS = [1000, 2000, 4000];

/** Commands that ask servers. */
const REMOTE = new Set(['ls-remote', 'fetch', 'submodule']);

/** What curl, ssh and git say when a connection or a server has failed. */
const PASSING = [
  /Connection (reset|closed|refused|timed out)/i,
  /Could(n't| not) connect|Failed to connect|Could(n't| not) resolve host|Network is unreachable/,
  /Temporary failure in name resolution|Operation timed out|Operation too slow|Broken pipe/i,
  /(Recv|Send) failure|Empty reply from server|transfer closed with/,
  /SSL_ERROR_SYSCALL|SSL_(read|connect)|GnuTLS recv error|TLS connection was non-properly terminated/,
  /HTTP\/2 stream \d+ was not closed cleanly|HTTP2 framing layer|RPC failed; curl (?!22)/,
  /(returned error: |RPC failed; HTTP )(408|429|500|502|503|504|52\d)\b/,
  /early EOF|unexpected disconnect while reading sideband packet|remote end hung up/,
];

/** What no second attempt helps with, whatever else is said. */
const LASTING =
  /remote error:|not our ref|couldn't find remote ref|not found|Authentication failed|could not read (Username|Password)|Permission denied|Host key verification failed|(returned error: |RPC failed; HTTP )(40[0-7]|410|422)\b/;

/** Whether a command may do better soon, by what it has said on its error stream. */
export function isPassing(args: readonly string[], stderr: string): boolean {
  if (!REMOTE.has(args[0] ?? '') || LASTING.test(stderr)) return false;
  return PASSING.some((pattern) => pattern.test(stderr));
}

/**
 * Waits before attempt number `attempt` (1 is the second one).
 * @returns false when there have been enough
 */
export async function pause(
  attempt: number,
  { signal, tell }: { readonly signal: AbortSignal; readonly tell: (text: string) => void },
): Promise<boolean> {
  const wait = WAITS_MS[attempt - 1];
  if (wait === undefined) return false;
  tell(`retrying in ${wait / 1000}s\n`);
  await sleep(wait, undefined, { signal });
  return true;
}
