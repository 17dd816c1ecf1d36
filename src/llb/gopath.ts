/** `path.Clean` of Go: shortest equal name, '.' for nothing, no slash at the end but for the root. */
export function cleanPath(name: string): string {
  if (name === '') return '.';
  if (isClean(name)) return name; // most are, and some are long
  const rooted = name.startsWith('/');
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.length > 0 && parts.at(-1) !== '..') parts.pop();
    else if (!rooted) parts.push('..');
  }
  const joined = parts.join('/');
  return rooted ? `/${joined}` : joined || '.';
}

/** False for some that are, such as names of hidden files. */
function isClean(name: string): boolean {
  return !name.startsWith('.') && !name.endsWith('/') && !name.includes('//') && !name.includes('/.');
}

/** `path.Join` of Go: empty elements do not count. */
export function joinPath(...elements: readonly string[]): string {
  const joined = elements.filter((element) => element !== '').join('/');
  return joined === '' ? '' : cleanPath(joined);
}

/** `path.Base` of Go. */
export function basePath(name: string): string {
  if (name === '') return '.';
  // Not a regular expression: one that is anchored at the end only is quadratic on long inner runs.
  let end = name.length;
  while (name[end - 1] === '/') end--;
  const trimmed = name.slice(0, end);
  return trimmed === '' ? '/' : trimmed.slice(trimmed.lastIndexOf('/') + 1);
}

/** Order of Go's strings: by bytes of UTF-8. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
