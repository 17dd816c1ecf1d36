import type { ErrorDetail } from '../../base/errors.ts';
import { REVISION, VERSION } from '../../base/version.ts';

const FRAME = /^\s+at (?:(.+?) \()?(.+?):(\d+):\d+\)?$/;

/** Where an error came from, as a detail that clients show when they are debugged: of its innermost cause. */
export function stackDetail(error: unknown): ErrorDetail | undefined {
  let inner = error;
  while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause;
  const lines = inner instanceof Error ? (inner.stack?.split('\n') ?? []) : [];
  const frames = lines.flatMap((line) => {
    const match = FRAME.exec(line);
    return match ? [{ Name: match[1] ?? '', File: match[2], Line: Number(match[3]) }] : [];
  });
  if (frames.length === 0) return undefined;
  const value = { frames, cmdline: process.argv, pid: process.pid, version: VERSION, revision: REVISION };
  return { type: 'stack.Stack', value };
}
