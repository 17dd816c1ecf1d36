import { formatGoUrl, parseGoUrl } from './go-url.ts';

const MASK = 'xxxxx';

/** The address with user and password masked, for texts that others read. What is no address stays as it is. */
export function redactCredentials(text: string): string {
  try {
    const url = parseGoUrl(text);
    // Texts like `git@host:path` hold no secret, and have no such form.
    if (!url.user || (url.scheme === '' && url.host === '')) return text;
    const { name, password } = url.user;
    const user = {
      name: name === '' ? '' : MASK,
      password: password === undefined ? undefined : MASK,
    };
    return formatGoUrl(url, { user });
  } catch {
    return text; // no address: nothing to hide
  }
}
