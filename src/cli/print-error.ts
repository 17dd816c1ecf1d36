import { BuildError, type ErrorDetail } from '../base/errors.ts';
import { sourceSnippet as snippetOf } from '../base/snippet.ts';
import { systemErrorText } from '../sys/errno.ts';

/** Says on stderr what went wrong: source lines, policy messages, the error, what can be done (FEATURES L21, H29). */
export function printError(error: unknown, debug: boolean): void {
  const own = BuildError.from(error);
  const lines: string[] = [];
  for (const detail of own.details) {
    const snippet = detailText(detail);
    if (snippet !== undefined) lines.push(snippet);
  }
  lines.push(
    `error: ${debug ? debugText(error) : error instanceof BuildError ? own.message : systemErrorText(error)}`,
  );
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
  if (detail.type === 'errdefs.Source') return sourceSnippet(detail.value);
  if (detail.type !== 'policysession.DecisionResponse') return undefined;
  const { denyMessages } = detail.value as { denyMessages?: readonly { message?: string }[] };
  const texts = (denyMessages ?? []).flatMap(({ message }) => (message ? [`policy deny: ${message}`] : []));
  return texts.length > 0 ? texts.join('\n') : undefined;
}

/** The lines of the source file around the ranges, with those in a range marked. */
export function sourceSnippet(value: unknown): string | undefined {
  const [source] = new BuildError('', { details: [{ type: 'errdefs.Source', value }] }).sources;
  const lines = source?.ranges.map(({ start, end }) => ({ start: start.line, end: end.line }));
  return source && snippetOf(source.filename, source.text, lines ?? []);
}
