import { constants } from 'node:os';
import { BuildError } from '../../base/errors.ts';
import { upper } from '../text.ts';

/** Names that Node does not list. */
const MORE: ReadonlySet<string> = new Set(['CLD', 'STKFLT', 'RTMIN', 'RTMAX']);

/** Refuses what is no signal: a number, or a name with or without `SIG`. */
export function checkSignal(text: string): void {
  const invalid = () => new BuildError(`invalid signal: ${text}`);
  if (/^[+-]?[0-9]+$/.test(text)) {
    if (Number(text) === 0) throw invalid();
    return;
  }
  const name = upper(text).replace(/^SIG/, '');
  const offset = /^RT(MIN\+|MAX-)([0-9]+)$/.exec(name);
  if (offset) {
    const distance = Number(offset[2]);
    const written = String(distance) === offset[2] && distance >= 1;
    const last = offset[1] === 'MIN+' ? 15 : 14;
    if (written && distance <= last) return;
    throw invalid();
  }
  if (MORE.has(name) || Object.hasOwn(constants.signals, `SIG${name}`)) return;
  throw invalid();
}
