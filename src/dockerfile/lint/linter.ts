import { BuildError } from '../../base/errors.ts';
import { DirectiveReader } from '../directives.ts';
import type { Location } from '../location.ts';
import { closest } from '../suggest.ts';
import { cut, parseBool, quote, trim } from '../text.ts';
import type { Finding } from './rules.ts';

/** Which rules are checked. */
export interface LintConfig {
  readonly skipAll: boolean;
  readonly skip: ReadonlySet<string>;
  readonly experimentalAll: boolean;
  readonly experimental: ReadonlySet<string>;
  /** A broken rule fails the build. */
  readonly failOnWarning: boolean;
}

export interface LintWarning {
  readonly rule: string;
  readonly description: string;
  readonly url: string;
  readonly message: string;
  readonly location: Location;
}

/** Parts of `skip=…;experimental=…;error=…` that are told apart; the rest belongs to the last one. */
const MAX_PARTS = 3;

/** Names looked at for suggestions in one file: they are a service, and must not hold up the build. */
const MAX_COMPARED = 500_000;

export const defaultLint: LintConfig = {
  skipAll: false,
  skip: new Set(),
  experimentalAll: false,
  experimental: new Set(),
  failOnWarning: false,
};

/**
 * Reads `skip=A,B;experimental=all;error=true`.
 * @throws {BuildError}
 */
export function parseLintConfig(text: string): LintConfig {
  const written = trim(text);
  if (written === '') return defaultLint;
  const all = written.split(';');
  const parts = [
    ...all.slice(0, MAX_PARTS - 1),
    ...(all.length < MAX_PARTS ? [] : [all.slice(MAX_PARTS - 1).join(';')]),
  ];
  return parts.reduce(withPart, defaultLint);
}

function withPart(config: LintConfig, part: string): LintConfig {
  const [name, written] = cut(part, '=');
  if (written === undefined) throw new BuildError(`invalid check option ${quote(part)}`);
  const key = trim(name);
  const value = trim(written);
  const names = new Set(value === 'all' ? [] : value.split(',').map(trim));
  switch (key) {
    case 'skip':
      return { ...config, skipAll: value === 'all' || config.skipAll, skip: names };
    case 'experimental':
      return { ...config, experimentalAll: value === 'all' || config.experimentalAll, experimental: names };
    case 'error':
      return { ...config, failOnWarning: truth(value, part) };
    default:
      throw new BuildError(`invalid check option ${quote(key)}`);
  }
}

function truth(value: string, part: string): boolean {
  const parsed = parseBool(value);
  if (parsed !== undefined) return parsed;
  throw new BuildError(
    `failed to parse check option ${quote(part)}: strconv.ParseBool: parsing ${quote(value)}: invalid syntax`,
  );
}

/** What linters of one file share. */
interface Seen {
  readonly broken: Set<string>;
  /** Names looked at for suggestions. */
  compared: number;
}

/** Reports broken rules, and knows in the end whether there were any. */
export class Linter {
  readonly #config: LintConfig;
  readonly #warn: ((warning: LintWarning) => void) | undefined;
  readonly #seen: Seen;

  /** Without `warn` nothing is checked. */
  constructor(
    config: LintConfig,
    warn: ((warning: LintWarning) => void) | undefined,
    seen: Seen = { broken: new Set(), compared: 0 },
  ) {
    this.#config = config;
    this.#warn = warn;
    this.#seen = seen;
  }

  /** The one of `names` that was likely meant, or ''. A file with very many findings gets no more of these. */
  suggest(name: string, names: readonly string[]): string {
    if (!this.#warn || this.#seen.compared > MAX_COMPARED) return '';
    this.#seen.compared += names.length;
    return closest(name, names, true) ?? '';
  }

  report({ rule, message }: Finding, location: Location): void {
    if (!this.#warn) return;
    const { experimental, experimentalAll, skip, skipAll } = this.#config;
    const wanted = rule.experimental
      ? experimentalAll || experimental.has(rule.name)
      : !skipAll && !skip.has(rule.name);
    if (!wanted) return;
    this.#seen.broken.add(rule.name);
    this.#warn({ rule: rule.name, description: rule.description, url: rule.url, message, location });
  }

  /** For an instruction under these comments: the first `check=…` among them adds to the rules of the file. */
  withComments(comments: readonly string[]): Linter {
    const own = checkIn(comments);
    if (!own) return this;
    const base = this.#config;
    const config = {
      ...base,
      skipAll: base.skipAll || own.skipAll,
      skip: new Set([...base.skip, ...own.skip]),
      experimentalAll: base.experimentalAll || own.experimentalAll,
      experimental: new Set([...base.experimental, ...own.experimental]),
    };
    return new Linter(config, this.#warn, this.#seen);
  }

  /** @throws {BuildError} when rules were broken and that is to fail the build */
  finish(): void {
    const { broken } = this.#seen;
    if (!this.#config.failOnWarning || broken.size === 0) return;
    throw new BuildError(`lint violation found for rules: ${[...broken].join(', ')}`);
  }
}

function checkIn(comments: readonly string[]): LintConfig | undefined {
  for (const comment of comments) {
    const directive = new DirectiveReader('').read(comment);
    if (directive?.name !== 'check') continue;
    try {
      return parseLintConfig(cut(directive.value, ' ')[0]);
    } catch {
      return undefined; // such a comment is only a comment
    }
  }
  return undefined;
}
