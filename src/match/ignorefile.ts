import { BuildError } from '../base/errors.ts';
import { cleanPath } from './paths.ts';
import { trimSpace } from './patterns.ts';

/** Longest line of an ignore file in bytes. */
const MAX_LINE_BYTES = 64 * 1024;

/**
 * Patterns of a .dockerignore file (FEATURES H51): BOM dropped, lines that start with `#` and empty ones left out,
 * trimmed, cleaned, one leading slash dropped, also behind `!`.
 */
export function readIgnoreFile(content: Uint8Array | string): string[] {
  const text =
    typeof content === 'string' ? content : new TextDecoder('utf-8', { ignoreBOM: true }).decode(content);
  const patterns: string[] = [];
  for (const line of text.replace(/^\ufeff/, '').split('\n')) {
    if (line.length >= MAX_LINE_BYTES / 4 && Buffer.byteLength(line) >= MAX_LINE_BYTES)
      throw new BuildError('bufio.Scanner: token too long');
    if (line.startsWith('#')) continue;
    const trimmed = trimSpace(line);
    if (trimmed === '') continue;
    const inverted = trimmed.startsWith('!');
    let pattern = inverted ? trimSpace(trimmed.slice(1)) : trimmed;
    if (pattern !== '') pattern = cleanPath(pattern);
    if (pattern.length > 1 && pattern.startsWith('/')) pattern = pattern.slice(1);
    patterns.push(inverted ? `!${pattern}` : pattern);
  }
  return patterns;
}
