import { invalidArgument } from '../base/errors.ts';

/** A parsed chmod text: gives the new permission bits for old ones. */
export type ModeChange = (bits: number, isDirectory: boolean) => number;

const USER = 0o4700;
const GROUP = 0o2070;
const OTHER = 0o0007;
const SET_ID = 0o6000;
const STICKY = 0o1000;
/** What a clause without u, g, o or a is about; the sticky bit is not part of it. */
const ALL = USER | GROUP | OTHER;
const WHO: Readonly<Record<string, number>> = { u: USER, g: GROUP, o: OTHER, a: ALL };
const PERMISSIONS: Readonly<Record<string, number>> = { r: 0o444, w: 0o222, x: 0o111 };

/** One step on the bits; `before` are those at the start. */
type Step = (bits: number, before: number, isDirectory: boolean) => number;

/**
 * chmod(1) modes: octal, or clauses like `u=rwX,go=rX` (FEATURES D11 modeStr). No umask applies. In unusual corners
 * (`=` keeps the sticky bit, `+t` drops other letters beside it) the rules are those of BSD's setmode(3), as in BuildKit.
 * @throws BuildError on anything else
 */
export function parseMode(text: string): ModeChange {
  if (/^[0-9]/.test(text)) {
    const bits = /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
    if (!(bits <= 0o7777)) throw badMode(text);
    return () => bits;
  }
  const steps = text.split(',').flatMap((clause) => parseClause(clause, text));
  return (bits, isDirectory) => steps.reduce((mode, step) => step(mode, bits, isDirectory), bits);
}

function badMode(text: string): Error {
  return invalidArgument(`invalid mode: ${JSON.stringify(text)}`);
}

function parseClause(clause: string, text: string): Step[] {
  const match = /^([ugoa]*)((?:[-+=][rwxXstugo]*)+)$/.exec(clause);
  if (!match) throw badMode(text);
  const who = [...match[1]!].reduce((mask, letter) => mask | WHO[letter]!, 0);
  return match[2]!.match(/[-+=][rwxXstugo]*/g)!.flatMap((action) => parseAction(action, who));
}

function parseAction(action: string, named: number): Step[] {
  const op = action[0]!;
  const steps: Step[] = [];
  let who = named;
  let bits = 0;
  let conditional = 0;
  /** `=` clears once per action, or not at all when bits are copied first. */
  let cleared = op !== '=';
  const flush = (): void => {
    if (bits !== 0) {
      steps.push(...change(op, who, bits));
      bits = 0;
    }
  };
  for (const letter of action.slice(1)) {
    if (letter === 'u' || letter === 'g' || letter === 'o') {
      flush();
      cleared = true;
      if (conditional !== 0) steps.push(onlyExecutable(maskOf(who, conditional)));
      conditional = 0;
      steps.push(copyBits(letter, op, who));
    } else if (letter === 'X' && op !== '-') conditional = 0o111;
    else if (letter === 's' || letter === 't') {
      if (who === OTHER) continue;
      if (letter === 't') who |= STICKY;
      bits |= letter === 't' ? STICKY : SET_ID;
    } else bits |= PERMISSIONS[letter.toLowerCase()]!;
  }
  if (bits === 0 && !cleared) steps.push(...change('=', who, 0));
  flush();
  if (conditional !== 0) steps.push(onlyExecutable(maskOf(who, conditional)));
  return steps;
}

const maskOf = (who: number, bits: number): number => (who === 0 ? bits : who & bits);

function change(op: string, who: number, bits: number): Step[] {
  const mask = maskOf(who, bits);
  if (op === '-') return [(mode) => mode & ~mask];
  const add: Step = (mode) => mode | mask;
  return op === '+' ? [add] : [(mode) => mode & ~(who === 0 ? ALL : who), add];
}

/** Applies to directories, and to files that somebody may execute. */
function onlyExecutable(mask: number): Step {
  return (mode, before, isDirectory) => (isDirectory || (before & 0o111) !== 0 ? mode | mask : mode);
}

/** What one class may do goes to others. */
function copyBits(from: string, op: string, who: number): Step {
  const shift = from === 'u' ? 6 : from === 'g' ? 3 : 0;
  const classes = who === 0 ? ALL : who;
  const spread = (value: number): number =>
    (classes & 0o400 ? value << 6 : 0) | (classes & 0o040 ? value << 3 : 0) | (classes & 0o004 ? value : 0);
  return (mode) => {
    const value = (mode >> shift) & 7;
    if (op === '-') return mode & ~spread(value);
    return (op === '=' ? mode & ~spread(7) : mode) | spread(value);
  };
}
