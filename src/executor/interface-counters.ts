import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CniResult } from './cni-plugin.ts';

const INTERFACES = '/sys/class/net';
const FIELDS: readonly (readonly [name: string, file: string])[] = [
  ['rxBytes', 'rx_bytes'],
  ['rxPackets', 'rx_packets'],
  ['rxErrors', 'rx_errors'],
  ['rxDropped', 'rx_dropped'],
  ['txBytes', 'tx_bytes'],
  ['txPackets', 'tx_packets'],
  ['txErrors', 'tx_errors'],
  ['txDropped', 'tx_dropped'],
];

export type Counters = Readonly<Record<string, number>>;

/**
 * Counts from now on what passes through the host's end of a network's pair of interfaces, what is zero left out;
 * undefined when the plugins have made no pair, or several.
 */
export function pairCounters(
  results: readonly (CniResult | undefined)[],
  dir = INTERFACES,
): (() => Counters | undefined) | undefined {
  const names = results
    .flatMap((result) => (result?.interfaces ?? []) as readonly { readonly name?: string }[])
    .map(({ name = '' }) => name)
    .filter((name) => name.startsWith('veth') && !name.includes('/'));
  const [name] = names;
  if (name === undefined || names.length > 1) return undefined;
  const first = read(join(dir, name));
  if (!first) return undefined;
  return () => {
    const now = read(join(dir, name));
    if (!now) return undefined;
    const passed = FIELDS.map(([field], i) => [field, now[i]! - first[i]!] as const);
    return Object.fromEntries(passed.filter(([, count]) => count !== 0));
  };
}

function read(dir: string): number[] | undefined {
  try {
    return FIELDS.map(([, file]) => Number(readFileSync(join(dir, 'statistics', file), 'utf8')));
  } catch {
    return undefined; // gone with the container's end
  }
}
