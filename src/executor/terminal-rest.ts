import { readFileSync } from 'node:fs';

/** A message of a runtime, in the format it was asked for. */
const MESSAGE = /^\{"(?:msg|level|time)":.*\}\n/gm;
/**
 * crun ends each piece that it reads with a line feed of its own, pieces being of any length. Those of the process have
 * a carriage return before them, unless it has told its terminal otherwise.
 */
const ADDED = /(?<!\r)\n/g;

/**
 * Output of a process that did not come through its terminal: crun 1.8, which copies it, writes what is left at the end
 * of the process to its log instead.
 * @param logFile of this process alone
 */
export function restOfTerminal(logFile: string): Uint8Array | undefined {
  let log: string;
  try {
    log = readFileSync(logFile, 'latin1');
  } catch {
    return undefined; // nothing was logged
  }
  const rest = log.replace(MESSAGE, '').replace(ADDED, '');
  return rest === '' ? undefined : Buffer.from(rest, 'latin1');
}
