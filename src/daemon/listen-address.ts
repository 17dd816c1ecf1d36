import { invalidArgument } from '../base/errors.ts';

/** Where the daemon listens (FEATURES A2, A3). */
export type ListenAddress =
  | { readonly kind: 'unix'; readonly text: string; readonly path: string }
  | { readonly kind: 'tcp'; readonly text: string; readonly host: string; readonly port: number }
  /** systemd socket activation; `name` is empty for the first inherited descriptor. */
  | { readonly kind: 'fd'; readonly text: string; readonly name: string };

/** @throws BuildError with upstream's texts. */
export function parseListenAddress(text: string): ListenAddress {
  const at = text.indexOf('://');
  if (at < 0) throw invalidArgument(`address ${text} does not contain proto, you meant unix://${text} ?`);
  const scheme = text.slice(0, at);
  const rest = text.slice(at + 3);
  if (scheme === 'unix') {
    if (rest === '') throw invalidArgument(`addr ${text} has no path`);
    return { kind: 'unix', text, path: rest };
  }
  if (scheme === 'fd') return { kind: 'fd', text, name: rest };
  if (scheme === 'tcp') return { kind: 'tcp', text, ...hostPort(text, rest) };
  throw invalidArgument(`addr ${text} not supported`);
}

/** Where `--debugaddr` listens: `HOST:PORT` or an address with its scheme (FEATURES A47). @throws */
export function parseDebugAddress(text: string): ListenAddress {
  const address = parseListenAddress(text.includes('://') ? text : `tcp://${text}`);
  if (address.kind === 'fd') throw invalidArgument(`debug address ${text}: a socket or HOST:PORT is needed`);
  return address;
}

function hostPort(text: string, rest: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(rest);
  const port = Number(match?.[3]);
  if (!match || port > 65535) throw invalidArgument(`addr ${text} is not of the form tcp://HOST:PORT`);
  return { host: (match[1] ?? match[2]) || '::', port };
}
