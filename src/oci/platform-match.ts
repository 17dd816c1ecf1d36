import { normalizePlatform, type Platform } from './platform.ts';

/** Minor versions that an arm64 CPU of major 8 and 9 also runs: v9.N contains v8.(N+5), at most v8.9. */
const ARM64_TOP_MINOR: Readonly<Record<number, number>> = { 8: 9, 9: 7 };
const V9_TO_V8 = 5;

/** What a machine of platform `wanted` can run, best first. */
function runnable(wanted: Platform): Platform[] {
  const withVariant = (architecture: string, variant: string): Platform => {
    const { variant: _, ...rest } = wanted;
    return variant === '' ? { ...rest, architecture } : { ...rest, architecture, variant };
  };
  switch (wanted.architecture) {
    case 'amd64': {
      const level = versionOf(wanted.variant);
      const lower = range(level - 1, 1).map((v) => withVariant('amd64', `v${v}`));
      return [wanted, ...lower, withVariant('386', '')];
    }
    case 'arm':
      return [wanted, ...range(versionOf(wanted.variant) - 1, 5).map((v) => withVariant('arm', `v${v}`))];
    case 'arm64':
      return arm64(wanted, withVariant);
    default:
      return [wanted];
  }
}

function arm64(wanted: Platform, withVariant: (arch: string, variant: string) => Platform): Platform[] {
  const match = /^v([89])(?:\.(\d))?$/.exec(wanted.variant ?? 'v8');
  const major = Number(match?.[1]);
  const minor = Number(match?.[2] ?? 0);
  const top = ARM64_TOP_MINOR[major];
  if (!match || top === undefined || minor > top) return [wanted];
  const named = (m: number, n: number): Platform => withVariant('arm64', n === 0 ? `v${m}` : `v${m}.${n}`);
  const own = range(minor, 0).map((n) => named(major, n));
  const older = major === 9 ? range(Math.min(minor + V9_TO_V8, 9), 0).map((n) => named(8, n)) : [];
  return [...own, ...older, ...runnable(withVariant('arm', 'v8'))];
}

function versionOf(variant: string | undefined): number {
  const match = /^v?(\d+)$/.exec(variant ?? '');
  return match ? Number(match[1]) : 0;
}

function range(from: number, to: number): number[] {
  return from < to ? [] : Array.from({ length: from - to + 1 }, (_, i) => from - i);
}

/** The candidate is this very platform; features it needs must be wanted. */
function same(wanted: Platform, candidate: Platform): boolean {
  const features = wanted.osFeatures ?? [];
  return (
    wanted.os === candidate.os &&
    wanted.architecture === candidate.architecture &&
    (wanted.variant ?? '') === (candidate.variant ?? '') &&
    (candidate.osFeatures ?? []).every((f) => features.includes(f)) &&
    (wanted.os !== 'windows' || windowsVersionFits(wanted.osVersion, candidate.osVersion))
  );
}

/** Same build number, the first three parts of the version; an absent version fits all. */
function windowsVersionFits(wanted: string | undefined, candidate: string | undefined): boolean {
  const build = (version: string): string => version.split('.').slice(0, 3).join('.');
  return !wanted || !candidate || build(wanted) === build(candidate);
}

/** Chooses among the platforms of an index for a machine (or a request) of one platform. */
export class PlatformMatcher {
  readonly #order: readonly Platform[];

  constructor(wanted: Platform) {
    this.#order = runnable(normalizePlatform(wanted)).map(normalizePlatform);
  }

  matches(candidate: Platform): boolean {
    return this.rank(candidate) !== undefined;
  }

  /** 0 is best; undefined does not run here. */
  rank(candidate: Platform): number | undefined {
    const normal = normalizePlatform(candidate);
    const at = this.#order.findIndex((wanted) => same(wanted, normal));
    return at < 0 ? undefined : at;
  }

  /** Those that match, best first; equals keep their order, but more matched OS features go before fewer. */
  sort<T>(items: readonly T[], platformOf: (item: T) => Platform): T[] {
    return items
      .map((item) => ({ item, platform: platformOf(item), rank: this.rank(platformOf(item)) }))
      .filter((entry): entry is typeof entry & { rank: number } => entry.rank !== undefined)
      .sort(
        (a, b) =>
          a.rank - b.rank || (b.platform.osFeatures?.length ?? 0) - (a.platform.osFeatures?.length ?? 0),
      )
      .map((entry) => entry.item);
  }
}
