import { BuildError } from '../../base/errors.ts';
import { suggestError } from '../suggest.ts';
import { cut, lower } from '../text.ts';

export type FlagKind = 'bool' | 'string' | 'strings';

type Value<K extends FlagKind> = K extends 'bool' ? boolean : K extends 'string' ? string : readonly string[];
export type FlagValues<D extends Record<string, FlagKind>> = { readonly [N in keyof D]?: Value<D[N]> };

/**
 * Reads the `--name[=value]` words of an instruction (FEATURES H28). A flag that is not written is
 * absent from the result.
 */
export function parseFlags<D extends Record<string, FlagKind>>(
  written: readonly string[],
  defined: D,
): FlagValues<D> {
  const values = new Map<string, boolean | string | string[]>();
  for (const word of written) {
    if (word === '--') break;
    if (!word.startsWith('--')) throw new BuildError(`arg should start with -- : ${word}`);
    const [flag, value] = cut(word, '=');
    const name = flag.slice(2);
    const kind = Object.hasOwn(defined, name) ? defined[name] : undefined;
    if (kind === undefined) throw suggestError(`unknown flag: ${flag}`, name, Object.keys(defined), true);
    if (values.has(name) && kind !== 'strings') throw new BuildError(`duplicate flag specified: ${flag}`);
    if (kind === 'bool') {
      values.set(name, boolValue(flag, value));
      continue;
    }
    if (value === undefined) throw new BuildError(`missing a value on flag: ${flag}`);
    if (kind === 'string') values.set(name, value);
    else values.set(name, [...((values.get(name) as string[] | undefined) ?? []), value]);
  }
  return Object.fromEntries(values) as FlagValues<D>;
}

function boolValue(flag: string, value: string | undefined): boolean {
  if (value === '') throw new BuildError(`missing a value on flag: ${flag}`);
  const truth = lower(value ?? 'true');
  if (truth === 'true') return true;
  if (truth === 'false') return false;
  throw new BuildError(`expecting boolean value for flag ${flag}, not: ${value}`);
}
