import { acceptedFlags, type CommandSpec, type FlagSpec, ownFlags } from './flags.ts';

/** The help page of the last command of `path`, in upstream's layout. */
export function helpText(path: readonly CommandSpec[]): string {
  const command = path.at(-1)!;
  const top = path.length === 1;
  const fullName = path.map((c) => c.name).join(' ');
  const sections = [`NAME:\n   ${fullName} - ${command.usage}`, `USAGE:\n   ${usageLine(path, fullName)}`];
  if (top && command.version !== undefined) sections.push(`VERSION:\n   ${command.version}`);
  const commands = (command.commands ?? []).filter((c) => !c.hidden);
  if (commands.length > 0) {
    const help: CommandSpec = {
      name: 'help',
      aliases: ['h'],
      usage: 'Shows a list of commands or help for one command',
    };
    const rows = (top ? [...commands, help] : commands).map(
      (c) => [[c.name, ...(c.aliases ?? [])].join(', '), c.usage] as const,
    );
    sections.push(`COMMANDS:\n${table(rows)}`);
  }
  const own = ownFlags(command, top).filter((f) => !f.hidden);
  sections.push(`${top ? 'GLOBAL ' : ''}OPTIONS:\n${table(own.map(flagRow))}`);
  const inherited = acceptedFlags(path).filter((f) => !f.hidden && !own.includes(f));
  if (inherited.length > 0 && !command.commands?.length)
    sections.push(`GLOBAL OPTIONS:\n${table(inherited.map(flagRow))}`);
  return `${sections.join('\n\n')}\n`;
}

function usageLine(path: readonly CommandSpec[], fullName: string): string {
  const command = path.at(-1)!;
  if (command.usageText !== undefined) return command.usageText.trim();
  const options = path.length === 1 ? '[global options]' : '[options]';
  if (command.commands?.length)
    return `${fullName} ${path.length === 1 ? `${options} ` : ''}[command [command options]]`;
  return [fullName, options, command.argsUsage].filter(Boolean).join(' ');
}

/** Numbers are shown with their default, nothing too. */
const ZERO: Readonly<Partial<Record<FlagSpec['kind'], string>>> = { int: '0', float: '0', duration: '0s' };

function flagRow(flag: FlagSpec): readonly [string, string] {
  const type = flag.kind === 'bool' ? '' : ` ${flag.kind === 'strings' ? 'string' : flag.kind}`;
  const names = [flag.name, ...(flag.aliases ?? [])]
    .map((n) => `${n.length === 1 ? '-' : '--'}${n}${type}`)
    .join(', ');
  const quoted = flag.kind === 'string' || flag.kind === 'strings';
  const given = flag.value ?? ZERO[flag.kind];
  const value = given === '' ? undefined : given;
  const shown =
    value === undefined || flag.kind === 'bool'
      ? ''
      : ` (default: ${quoted ? JSON.stringify(value) : value})`;
  const env = flag.env?.length ? ` [${flag.env.map((e) => `$${e}`).join(', ')}]` : '';
  return [flag.kind === 'strings' ? `${names} [ ${names} ]` : names, `${flag.usage}${shown}${env}`];
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `   ${left.padEnd(width)}  ${right}`.trimEnd()).join('\n');
}
