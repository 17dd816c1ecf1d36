import { invalidArgument } from '../base/errors.ts';

/**
 * The part of Go's templates that `--format` is used with (FEATURES L20): `json` and `{{json .}}`,
 * `{{.Field}}`, `{{json .Field}}`, `{{range .}}…{{end}}`. Field names match in any case.
 */
export type Template = (data: unknown) => string;

type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'value'; readonly path: readonly string[]; readonly json: boolean }
  | { readonly kind: 'range'; readonly path: readonly string[]; readonly body: readonly Node[] };

const TOKEN = /\{\{(-?)\s*(.*?)\s*(-?)\}\}/g;

/** @throws BuildError for what is not understood. */
export function parseTemplate(format: string): Template {
  const source = format === 'json' ? '{{json .}}' : format;
  const stack: { body: Node[]; path: readonly string[] }[] = [{ body: [], path: [] }];
  let at = 0;
  let trimNext = false;
  const text = (to: number, trimEnd: boolean): void => {
    let part = source.slice(at, to);
    if (trimNext) part = part.trimStart();
    if (trimEnd) part = part.trimEnd();
    if (part !== '') stack.at(-1)!.body.push({ kind: 'text', text: part });
  };
  for (const match of source.matchAll(TOKEN)) {
    text(match.index, match[1] === '-');
    trimNext = match[3] === '-';
    at = match.index + match[0].length;
    action(match[2]!, stack);
  }
  if (source.includes('{{', at)) throw invalidArgument('template: :1: unclosed action');
  text(source.length, false);
  if (stack.length > 1) throw invalidArgument('template: unexpected end: range without end');
  const { body } = stack[0]!;
  return (data) => render(body, data);
}

function action(code: string, stack: { body: Node[]; path: readonly string[] }[]): void {
  if (code === 'end') {
    const range = stack.pop()!;
    const outer = stack.at(-1);
    if (!outer) throw invalidArgument('template: unexpected {{end}}');
    outer.body.push({ kind: 'range', path: range.path, body: range.body });
    return;
  }
  const match = /^(range\s+|json\s+)?(\.[\w.]*)$/.exec(code);
  if (!match) throw invalidArgument(`template: {{${code}}} is not understood`);
  const path = match[2]!.split('.').filter(Boolean);
  const word = match[1]?.trim();
  if (word === 'range') stack.push({ body: [], path });
  else stack.at(-1)!.body.push({ kind: 'value', path, json: word === 'json' });
}

function render(nodes: readonly Node[], data: unknown): string {
  return nodes
    .map((node) => {
      if (node.kind === 'text') return node.text;
      const value = lookUp(data, node.path);
      if (node.kind === 'value') return node.json ? JSON.stringify(value ?? null) : plain(value);
      const items = Array.isArray(value) ? value : Object.values((value ?? {}) as object);
      return items.map((item: unknown) => render(node.body, item)).join('');
    })
    .join('');
}

function lookUp(data: unknown, path: readonly string[]): unknown {
  let value = data;
  for (const name of path) {
    const keys = Object.keys((value ?? {}) as object);
    const key = keys.find((k) => k.toLowerCase() === name.toLowerCase());
    if (key === undefined) throw invalidArgument(`template: can't evaluate field ${name}`);
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

function plain(value: unknown): string {
  if (value === undefined || value === null) return '<nil>';
  if (Array.isArray(value)) return `[${value.map(plain).join(' ')}]`;
  return typeof value === 'object' && !(value instanceof Number) ? JSON.stringify(value) : String(value);
}
