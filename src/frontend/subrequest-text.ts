import { sourceSnippet } from '../base/snippet.ts';
import type { OutlineSecret } from '../dockerfile/convert/outline.ts';
import type { LintWarning } from '../dockerfile/lint/linter.ts';
import type { OutlineParts } from './subrequest-answers.ts';

/** Blanks between the columns of the tables of an outline, and of all others. */
const WIDE = 3;
const NARROW = 1;

/** Rows of cells as aligned columns, a line each. Only the last cell is not padded. */
function table(rows: readonly (readonly string[])[], padding: number): string {
  const length = (cell: string): number => [...cell].length;
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from(
    { length: columns - 1 },
    (_, column) => Math.max(...rows.map((row) => length(row[column] ?? ''))) + padding,
  );
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - length(cell)))).join('');
  return rows.map((row) => `${line(row)}\n`).join('');
}

export function describeText(
  requests: readonly { readonly name: string; readonly version: string; readonly description: string }[],
): string {
  const rows = requests.map(({ name, version, description }) => [
    name.replace(/^frontend\./, ''),
    version,
    description,
  ]);
  return table([['NAME', 'VERSION', 'DESCRIPTION'], ...rows], NARROW);
}

export function targetsText(
  targets: readonly { readonly name: string; readonly isDefault: boolean; readonly description: string }[],
): string {
  const rows = targets.map(({ name, isDefault, description }) => {
    const words = [...(name === '' ? [] : [name]), ...(isDefault ? ['(default)'] : [])];
    return [words.join(' '), description];
  });
  return table([['TARGET', 'DESCRIPTION'], ...rows], NARROW);
}

export function outlineText({ name, description, args, secrets, ssh }: OutlineParts): string {
  const head = [
    ['TARGET:', name || '(default)'],
    ...(description === '' ? [] : [['DESCRIPTION:', description]]),
  ];
  const argRows = args.map((arg) => [arg.name, arg.value, arg.description]);
  return [
    ...(name === '' && description === '' ? [] : [table(head, NARROW)]),
    ...(args.length === 0 ? [] : [table([['BUILD ARG', 'VALUE', 'DESCRIPTION'], ...argRows], WIDE)]),
    ...secretTable('SECRET', secrets),
    ...secretTable('SSH', ssh),
  ]
    .map((part) => `${part}\n`)
    .join('');
}

function secretTable(title: string, secrets: readonly OutlineSecret[]): string[] {
  if (secrets.length === 0) return [];
  const rows = secrets.map(({ name, required }) => [name, required ? 'true' : '']);
  return [table([[title, 'REQUIRED'], ...rows], WIDE)];
}

/** By line; warnings without one first, by name. */
export function lintText(
  warnings: readonly LintWarning[],
  source: { readonly filename: string; readonly text: string },
): string {
  const line = ({ location }: LintWarning): number => location[0]?.start.line ?? 0;
  const byName = (a: LintWarning, b: LintWarning): number =>
    Number(a.rule > b.rule) - Number(a.rule < b.rule);
  return warnings
    .toSorted((a, b) => line(a) - line(b) || (line(a) === 0 ? byName(a, b) : 0))
    .map(({ rule, url, message, location }) => {
      const ranges = location.map(({ start, end }) => ({ start: start.line, end: end.line }));
      const snippet = sourceSnippet(source.filename, source.text, ranges);
      const title = url === '' ? rule : `${rule} - ${url}`;
      return `\nWARNING: ${title}\n${message}\n${snippet === undefined ? '' : `${snippet}\n`}`;
    })
    .join('');
}
