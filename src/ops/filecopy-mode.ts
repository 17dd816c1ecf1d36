import { invalidArgument } from '../base/errors.ts';

/** A parsed chmod text: gives the new permission bits for old ones. */
export type ModeChange = (bits: number, isDirectory: boolean) => number;

const WHO: Record<string, number> = { u: 0o4700, g: 0o2070, o: 0o0007, a: 0o6777 };
const SPECIAL = { s: 0o6000, t: 0o1000 } as const;

/**
 * chmod(1) modes: octal, or clauses like `u=rwX,go=rX` (FEATURES H43). No umask applies.
 * @throws BuildError on anything else
 */
export function parseMode(text: string): ModeChange {
  if (/^[0-7]{1,5}$/.test(text) && Number.parseInt(text, 8) <= 0o7777) {
    const bits = Number.parseInt(text, 8);
    return () => bits;
  }
  const clauses = text.split(',').map((clause) => parseClause(clause, text));
  return (bits, isDirectory) => clauses.reduce((mode, change) => change(mode, isDirectory), bits);
}

function parseClause(clause: string, text: string): ModeChange {
  const match = /^([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)$/.exec(clause);
  if (!match) throw invalidArgument(`invalid mode: ${JSON.stringify(text)}`);
  const who = match[1] === '' ? 0o7777 : [...match[1]!].reduce((mask, c) => mask | (WHO[c] ?? 0), 0);
  const everyone = match[1] === '' || match[1]!.includes('a');
  const actions = match[2]!.match(/[-+=](?:[ugo](?![rwxXst])|[rwxXst]*)/g) ?? [];
  const changes = actions.map((action) => parseAction(action, who, everyone));
  return (bits, isDirectory) => changes.reduce((mode, change) => change(mode, isDirectory), bits);
}

function parseAction(action: string, who: number, everyone: boolean): ModeChange {
  const op = action[0]!;
  const what = action.slice(1);
  return (bits, isDirectory) => {
    const sticky = everyone && what.includes('t') ? SPECIAL.t : 0;
    const asked = (permissionsOf(what, bits, isDirectory) & who) | sticky;
    if (op === '+') return bits | asked;
    if (op === '-') return bits & ~asked;
    const cleared = who & (everyone ? 0o7777 : ~SPECIAL.t);
    return (bits & ~cleared) | asked;
  };
}

function permissionsOf(what: string, bits: number, isDirectory: boolean): number {
  if (what === 'u') return ((bits >> 6) & 7) * 0o111;
  if (what === 'g') return ((bits >> 3) & 7) * 0o111;
  if (what === 'o') return (bits & 7) * 0o111;
  let mask = 0;
  for (const letter of what) {
    if (letter === 'r') mask |= 0o444;
    if (letter === 'w') mask |= 0o222;
    if (letter === 'x' || (letter === 'X' && (isDirectory || (bits & 0o111) !== 0))) mask |= 0o111;
    if (letter === 's') mask |= SPECIAL.s;
  }
  return mask;
}
