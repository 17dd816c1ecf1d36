import { BuildError, type ErrorDetail } from '../base/errors.ts';

const RULE = '-'.repeat(20);

/** An `errdefs.Source` detail as it comes over the wire, JSON of its message. */
interface SourceDetail {
  readonly info?: { readonly filename?: string; readonly data?: string };
  readonly ranges?: readonly { readonly start?: { line?: number }; readonly end?: { line?: number } }[];
}

/** Says on stderr what went wrong: source lines, policy messages, the error, what can be done (FEATURES L21, H29). */
export function printError(error: unknown, debug: boolean): void {
  const own = BuildError.from(error);
  const lines: string[] = [];
  for (const detail of own.details) {
    const snippet = detailText(detail);
    if (snippet !== undefined) lines.push(snippet);
  }
  lines.push(`error: ${debug ? debugText(error) : own.message}`);
  if (own.hint !== undefined) lines.push(`hint: ${own.hint}`);
  process.stderr.write(`${lines.join('\n')}\n`);
}

function debugText(error: unknown): string {
  const parts: string[] = [];
  for (let at = error; at instanceof Error; at = at.cause) parts.push(at.stack ?? at.message);
  return parts.length > 0 ? parts.join('\ncaused by: ') : String(error);
}

function detailText(detail: ErrorDetail): string | undefined {
  if (!('type' in detail)) return undefined;
  if (detail.type === 'errdefs.Source') return sourceSnippet(detail.value as SourceDetail);
  if (detail.type !== 'policysession.DecisionResponse') return undefined;
  const { denyMessages } = detail.value as { denyMessages?: readonly { message?: string }[] };
  const texts = (denyMessages ?? []).flatMap(({ message }) => (message ? [`policy deny: ${message}`] : []));
  return texts.length > 0 ? texts.join('\n') : undefined;
}

/** The lines of the source file around the ranges, with those in a range marked. */
export function sourceSnippet(source: SourceDetail): string | undefined {
  const lines = Buffer.from(source.info?.data ?? '', 'base64')
    .toString()
    .split('\n');
  const ranges = (source.ranges ?? []).map((range) => {
    const start = range.start?.line ?? 0;
    return { start, end: Math.max(start, range.end?.line ?? 0) };
  });
  if (source.info === undefined || ranges.length === 0) return undefined;
  const first = Math.min(...ranges.map((r) => r.start));
  const last = Math.max(...ranges.map((r) => r.end));
  if (first <= 0 || first > lines.length) return undefined;
  const context = first === last ? 2 : 1;
  const out = [`${source.info.filename ?? ''}:${first}`, RULE];
  for (let at = Math.max(1, first - context); at <= Math.min(lines.length, last + context); at++) {
    const marked = ranges.some((r) => at >= r.start && at <= r.end);
    out.push(` ${String(at).padStart(3)} | ${marked ? '>>>' : '   '} ${lines[at - 1]}`);
  }
  return [...out, RULE].join('\n');
}
