import { formatCpuset, parseCpuset } from '../oci/cpuset.ts';
import type { LinuxResources } from './types.ts';

/**
 * The more relaxed of two sets of limits, field by field (FEATURES G13): a step that several builds share is
 * not slowed down by the stricter one. A build without any limits has no say.
 */
export function relaxResources(
  a: LinuxResources | undefined,
  b: LinuxResources | undefined,
): LinuxResources | undefined {
  if (!a || !b) return a ?? b;
  return {
    memory: a.memory === 0n || b.memory === 0n ? 0n : larger(a.memory, b.memory),
    memorySwap: a.memorySwap === -1n || b.memorySwap === -1n ? -1n : larger(a.memorySwap, b.memorySwap),
    cpuShares: larger(a.cpuShares, b.cpuShares),
    ...bandwidth(a, b),
    cpusetCpus: union(a.cpusetCpus, b.cpusetCpus),
    cpusetMems: union(a.cpusetMems, b.cpusetMems),
  };
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

type Bandwidth = Pick<LinuxResources, 'cpuPeriod' | 'cpuQuota'>;

/** Period and quota stay together: those that allow more processor time. */
function bandwidth(a: Bandwidth, b: Bandwidth): Bandwidth {
  const pair = ({ cpuPeriod, cpuQuota }: Bandwidth): Bandwidth => ({ cpuPeriod, cpuQuota });
  if (a.cpuQuota === 0n && b.cpuQuota === 0n) return { cpuPeriod: 0n, cpuQuota: 0n };
  if (a.cpuQuota === 0n || b.cpuQuota === 0n) return pair(a.cpuQuota === 0n ? a : b);
  const bothPeriods = a.cpuPeriod !== 0n && b.cpuPeriod !== 0n;
  const [shareA, shareB] = bothPeriods
    ? [a.cpuQuota * b.cpuPeriod, b.cpuQuota * a.cpuPeriod]
    : [a.cpuQuota, b.cpuQuota];
  if (shareA !== shareB) return pair(shareA > shareB ? a : b);
  // The same share: of two periods the shorter one, since the step then runs more often.
  if (bothPeriods) return pair(a.cpuPeriod <= b.cpuPeriod ? a : b);
  return pair(a.cpuPeriod !== 0n ? a : b);
}

/** Empty is "all"; a list that cannot be read gives way to the other. */
function union(a: string, b: string): string {
  if (a === '' || b === '') return '';
  const [numbersA, numbersB] = [readable(a), readable(b)];
  if (!numbersA || !numbersB) return numbersB ? b : a;
  return formatCpuset(numbersA.union(numbersB));
}

function readable(text: string): Set<number> | undefined {
  try {
    return parseCpuset(text);
  } catch {
    return undefined; // a client's LLB may hold anything
  }
}
