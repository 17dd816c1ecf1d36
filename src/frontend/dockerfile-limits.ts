import { BuildError } from '../base/errors.ts';
import { csvFields } from '../dockerfile/instructions/csv.ts';
import { cut, intProblem, parseInt64, quote } from '../dockerfile/text.ts';
import type { LinuxResources } from '../llb/ops.ts';
import { parseCpuset } from '../oci/cpuset.ts';
import type { Ulimit } from '../llb/state.ts';

const ULIMITS: readonly string[] =
  'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(
    ' ',
  );
const UNLIMITED = -1n;
const MAX_UINT64 = 2n ** 64n - 1n;

/** CSV of `name=soft[:hard]` (FEATURES H11). */
export function parseUlimits(list: string): Ulimit[] {
  return list === '' ? [] : csvFields(list).map(parseUlimit);
}

function parseUlimit(text: string): Ulimit {
  const [name, values] = cut(text, '=');
  if (values === undefined) throw new BuildError(`invalid ulimit argument: ${text}`);
  if (!ULIMITS.includes(name)) throw new BuildError(`invalid ulimit type: ${name}`);
  const [softText = '', hardText, more] = values.split(':');
  if (more !== undefined)
    throw new BuildError(
      `too many limit value arguments - ${values}, can only have up to two, \`soft[:hard]\``,
    );
  const soft = integer(softText);
  const hard = hardText === undefined ? soft : integer(hardText);
  if (hard !== UNLIMITED && (soft === UNLIMITED || soft > hard))
    throw new BuildError(`ulimit soft limit must be less than or equal to hard limit: ${soft} > ${hard}`);
  return { name, soft, hard };
}

function integer(text: string): bigint {
  const value = parseInt64(text);
  if (value === undefined) throw new BuildError(intProblem(text));
  return value;
}

function unsigned(text: string): bigint {
  const value = /^\d+$/.test(text) ? BigInt(text) : undefined;
  if (value === undefined || value > MAX_UINT64) {
    const problem = value === undefined ? 'invalid syntax' : 'value out of range';
    throw new BuildError(`strconv.ParseUint: parsing ${quote(text)}: ${problem}`);
  }
  return value;
}

/** Limits of all RUN steps (FEATURES H12); undefined without any. */
export function parseResources(options: ReadonlyMap<string, string>): LinuxResources | undefined {
  const number = (
    key: string,
    check: (value: bigint) => string | undefined,
    parse: (text: string) => bigint = integer,
  ): bigint => {
    const text = options.get(key);
    if (!text) return 0n;
    const value = named(key, text, () => parse(text));
    const problem = check(value);
    if (problem) throw new BuildError(`invalid ${key} value: ${text}: must be ${problem}`);
    return value;
  };
  const positive = (value: bigint) => (value > 0n ? undefined : '> 0');
  const resources: LinuxResources = {
    memory: number('memory', positive),
    memorySwap: number('memswap', (value) =>
      value === UNLIMITED || value > 0n ? undefined : '-1 (unlimited) or > 0',
    ),
    cpuShares: number('cpushares', positive, unsigned),
    cpuPeriod: number('cpuperiod', positive, unsigned),
    cpuQuota: number('cpuquota', positive),
    cpusetCpus: cpuset(options, 'cpusetcpus'),
    cpusetMems: cpuset(options, 'cpusetmems'),
  };
  return Object.values(resources).some(Boolean) ? resources : undefined;
}

function cpuset(options: ReadonlyMap<string, string>, key: string): string {
  const text = options.get(key) ?? '';
  named(key, text, () => parseCpuset(text));
  return text;
}

function named<T>(key: string, text: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw BuildError.wrap(error, `invalid ${key} value: ${text}`);
  }
}
