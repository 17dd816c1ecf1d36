import { parseDuration } from './duration.ts';

/**
 * Command lines as upstream's binaries accept them: `-name value`, `--name value`, `--name=value`,
 * flags of a parent command also after the subcommand, repeated list flags that are never split
 * on commas, `--` as the end of flags. Only values are found here; what they mean is up to the caller.
 */
export type FlagKind = 'bool' | 'string' | 'strings' | 'int' | 'float' | 'duration';

export interface FlagSpec {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly kind: FlagKind;
  readonly usage: string;
  /** Default, as text; shown by help. */
  readonly value?: string;
  /** Environment variables that set it when the command line does not. */
  readonly env?: readonly string[];
  readonly hidden?: boolean;
  /** Belongs to this command alone and is not taken after a subcommand. */
  readonly local?: boolean;
}

export interface CommandSpec {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly usage: string;
  /** Replaces the generated USAGE line. */
  readonly usageText?: string;
  readonly argsUsage?: string;
  readonly flags?: readonly FlagSpec[];
  readonly commands?: readonly CommandSpec[];
  readonly hidden?: boolean;
  /** Set on the top command: adds `--version, -v`. */
  readonly version?: string;
}

export type ParsedArgs =
  | { readonly kind: 'run'; readonly path: readonly CommandSpec[]; readonly flags: FlagValues }
  | { readonly kind: 'help'; readonly path: readonly CommandSpec[] }
  | { readonly kind: 'version' }
  /** Wrong use: the text goes to stderr, and help of the command that was being parsed to stdout. */
  | { readonly kind: 'usage'; readonly message: string; readonly path: readonly CommandSpec[] }
  | { readonly kind: 'no-topic'; readonly topic: string };

type Value = boolean | number | bigint | string | readonly string[];

/** What the command line and the environment have set, with defaults behind. */
export class FlagValues {
  readonly #specs: ReadonlyMap<string, FlagSpec>;
  readonly #values: ReadonlyMap<string, Value>;
  /** Arguments that are no flags. */
  readonly args: readonly string[];

  constructor(
    specs: ReadonlyMap<string, FlagSpec>,
    values: ReadonlyMap<string, Value>,
    args: readonly string[],
  ) {
    this.#specs = specs;
    this.#values = values;
    this.args = args;
  }

  /** True when the command line or an environment variable gave it. */
  isSet(name: string): boolean {
    return this.#values.has(name);
  }

  bool(name: string): boolean {
    return this.#get(name) === true;
  }

  string(name: string): string {
    return String(this.#get(name) ?? '');
  }

  strings(name: string): readonly string[] {
    const value = this.#get(name);
    return Array.isArray(value) ? (value as readonly string[]) : [];
  }

  /** Of an `int` or `float` flag; 0 when neither set nor given a default. */
  number(name: string): number {
    return Number(this.#get(name) ?? 0);
  }

  /** Nanoseconds. */
  duration(name: string): bigint {
    const value = this.#get(name);
    return typeof value === 'bigint' ? value : 0n;
  }

  #get(name: string): Value | undefined {
    const value = this.#values.get(name);
    if (value !== undefined) return value;
    const spec = this.#specs.get(name);
    if (!spec) throw new TypeError(`no flag named ${name}`);
    if (spec.value === undefined) return undefined;
    return spec.kind === 'strings' ? [spec.value] : convert(spec, spec.value);
  }
}

export const HELP_FLAG: FlagSpec = {
  name: 'help',
  aliases: ['h'],
  kind: 'bool',
  usage: 'show help',
  local: true,
};
export const VERSION_FLAG: FlagSpec = {
  name: 'version',
  aliases: ['v'],
  kind: 'bool',
  usage: 'print the version',
  local: true,
};

/** Parses what follows the program's name. Commands with subcommands do nothing by themselves but help. */
export function parseArgs(
  root: CommandSpec,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedArgs {
  const values = new Map<string, Value>();
  const path: CommandSpec[] = [root];
  let rest = argv;
  for (;;) {
    let level: Level;
    try {
      level = parseLevel(path, rest, values);
    } catch (error) {
      if (error instanceof UsageError) return { kind: 'usage', message: error.message, path };
      throw error;
    }
    if (level.version) return { kind: 'version' };
    const { args } = level;
    if (level.help) return helpOf(path, args);
    const command = path.at(-1)!;
    const [first] = args;
    if (!command.commands?.length) return run(path, values, args, env);
    if (first === undefined) return { kind: 'help', path };
    if (first === 'help' || (first === 'h' && path.length === 1)) return helpOf(path, args.slice(1));
    const next = subcommand(command, first);
    if (!next) return { kind: 'no-topic', topic: first };
    path.push(next);
    rest = args.slice(1);
  }
}

/** Flags that the last command of `path` accepts, its own first. */
export function acceptedFlags(path: readonly CommandSpec[]): FlagSpec[] {
  const found: FlagSpec[] = [];
  const taken = new Set<string>();
  for (let depth = path.length - 1; depth >= 0; depth--) {
    const own = depth === path.length - 1;
    for (const flag of ownFlags(path[depth]!, depth === 0)) {
      const names = [flag.name, ...(flag.aliases ?? [])];
      if (!own && (flag.local || names.some((n) => taken.has(n)))) continue;
      for (const name of names) taken.add(name);
      found.push(flag);
    }
  }
  return found;
}

/** Flags declared by a command, with help and, at the top, version. */
export function ownFlags(command: CommandSpec, top: boolean): FlagSpec[] {
  return [
    ...(command.flags ?? []),
    HELP_FLAG,
    ...(top && command.version !== undefined ? [VERSION_FLAG] : []),
  ];
}

class UsageError extends Error {}

interface Level {
  readonly args: readonly string[];
  readonly help: boolean;
  readonly version: boolean;
}

/** Flags up to the next subcommand, which is left in `args` with everything behind it. */
function parseLevel(
  path: readonly CommandSpec[],
  argv: readonly string[],
  values: Map<string, Value>,
): Level {
  const command = path.at(-1)!;
  const byName = new Map<string, FlagSpec>();
  for (const flag of acceptedFlags(path))
    for (const n of [flag.name, ...(flag.aliases ?? [])]) byName.set(n, flag);
  const args: string[] = [];
  const done = (rest: readonly string[] = []): Level => ({
    args: [...args, ...rest],
    help: values.get('help') === true,
    version: values.get('version') === true,
  });
  for (let at = 0; at < argv.length; at++) {
    const raw = argv[at]!;
    const arg = raw.trim();
    if (arg === '--') return done(argv.slice(at + 1));
    if (arg === '-') return done([arg]);
    if (!arg.startsWith('-')) {
      if (arg !== '' && subcommand(command, arg)) return done(argv.slice(at));
      args.push(arg === '' ? raw : arg);
      continue;
    }
    const body = arg.startsWith('--') ? arg.slice(2) : arg.slice(1);
    if (!arg.startsWith('--') && !/^\p{L}/u.test(body)) return done(argv.slice(at));
    const equals = body.indexOf('=');
    const name = equals < 0 ? body : body.slice(0, equals);
    const spec = byName.get(name);
    if (!spec) throw new UsageError(`flag provided but not defined: -${name}`);
    let text = equals < 0 ? undefined : body.slice(equals + 1);
    if (spec.kind === 'bool') text ||= 'true';
    else if (text === undefined) {
      text = argv[++at];
      if (text === undefined) throw new UsageError(`flag needs an argument: ${arg}`);
    }
    assign(values, spec, name, text);
  }
  return done();
}

function assign(values: Map<string, Value>, spec: FlagSpec, name: string, text: string): void {
  if (spec.kind === 'strings') {
    const before = values.get(spec.name) as readonly string[] | undefined;
    values.set(spec.name, [...(before ?? []), text]);
    return;
  }
  try {
    values.set(spec.name, convert(spec, text));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UsageError(`invalid value ${JSON.stringify(text)} for flag -${name}: ${reason}`);
  }
}

const TRUE = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const FALSE = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/** Booleans as Go reads them; undefined when it is none. */
export function parseBool(text: string): boolean | undefined {
  return TRUE.has(text) ? true : FALSE.has(text) ? false : undefined;
}

function convert(spec: FlagSpec, text: string): Value {
  if (spec.kind === 'bool') {
    const value = parseBool(text);
    if (value === undefined) throw new Error('parse error');
    return value;
  }
  if (spec.kind === 'int') {
    const value = Number(text);
    if (!/^[+-]?(\d+|0[xX][\da-fA-F]+)$/.test(text))
      throw new Error(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
    return value;
  }
  if (spec.kind === 'float') {
    if (text.trim() === '' || Number.isNaN(Number(text)))
      throw new Error(`strconv.ParseFloat: parsing ${JSON.stringify(text)}: invalid syntax`);
    return Number(text);
  }
  if (spec.kind === 'duration') {
    const value = parseDuration(text);
    if (value === undefined) throw new Error(`time: invalid duration ${JSON.stringify(text)}`);
    return value;
  }
  return text;
}

function run(
  path: readonly CommandSpec[],
  values: Map<string, Value>,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedArgs {
  const specs = new Map<string, FlagSpec>();
  for (const flag of acceptedFlags(path)) {
    specs.set(flag.name, flag);
    if (values.has(flag.name)) continue;
    const source = flag.env?.find((name) => env[name] !== undefined && env[name] !== '');
    if (source === undefined) continue;
    try {
      assign(values, flag, flag.name, env[source] ?? '');
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      const message = `could not parse ${JSON.stringify(env[source])} as value from environment variable ${JSON.stringify(source)} for flag ${flag.name}`;
      return { kind: 'usage', message, path };
    }
  }
  return { kind: 'run', path, flags: new FlagValues(specs, values, args) };
}

function subcommand(command: CommandSpec, name: string): CommandSpec | undefined {
  return command.commands?.find((c) => c.name === name || c.aliases?.includes(name));
}

function helpOf(path: readonly CommandSpec[], names: readonly string[]): ParsedArgs {
  const full = [...path];
  for (const name of names) {
    const next = subcommand(full.at(-1)!, name);
    if (!next)
      return full.at(-1)!.commands?.length ? { kind: 'no-topic', topic: name } : { kind: 'help', path: full };
    full.push(next);
  }
  return { kind: 'help', path: full };
}
