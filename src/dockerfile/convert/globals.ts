import type { Platform } from '../../oci/platform.ts';
import { atLocation } from '../errors.ts';
import { type ExpandOptions, type Expansion, expand } from '../expand.ts';
import type { InstructionOf } from '../instructions/types.ts';
import { formatPlatform, formatPlatformFull } from '../../oci/platform.ts';
import type { OutlineArg } from './outline.ts';
import { VariableList } from './variables.ts';

/** FEATURES H32: the variables that need no ARG in the global scope. */
export function automaticArgs(
  build: Platform,
  target: Platform,
  targetStage: string,
  buildArgs: ReadonlyMap<string, string>,
): VariableList {
  const values: readonly (readonly [string, string])[] = [
    ['BUILDPLATFORM', formatPlatform(build)],
    ['BUILDOS', build.os],
    ['BUILDOSVERSION', build.osVersion ?? ''],
    ['BUILDARCH', build.architecture],
    ['BUILDVARIANT', build.variant ?? ''],
    ['TARGETPLATFORM', formatPlatformFull(target)],
    ['TARGETOS', target.os],
    ['TARGETOSVERSION', target.osVersion ?? ''],
    ['TARGETARCH', target.architecture],
    ['TARGETVARIANT', target.variant ?? ''],
    ['TARGETSTAGE', targetStage || 'default'],
  ];
  return new VariableList(values.map(([name, value]) => [name, buildArgs.get(name) ?? value]));
}

export interface GlobalArgs {
  readonly args: VariableList;
  /** Those of the file, by name. */
  readonly declared: ReadonlyMap<string, OutlineArg>;
}

/** Adds the ARGs in front of the first FROM; a build argument wins over a default (FEATURES H31). */
export function declareGlobalArgs(
  automatic: VariableList,
  instructions: readonly InstructionOf<'arg'>[],
  buildArgs: ReadonlyMap<string, string>,
  expansion: ExpandOptions,
): GlobalArgs {
  let args = automatic;
  const declared = new Map<string, OutlineArg>();
  for (const instruction of instructions) {
    const { location } = instruction;
    for (const { key, value: written, description } of instruction.args) {
      const given = buildArgs.get(key);
      const expanded =
        given === undefined && written !== undefined
          ? expandAt(written, args, expansion, instruction)
          : undefined;
      const value = given ?? expanded?.text;
      if (value !== undefined) args = args.with(key, value);
      const deps = dependencies(key, expanded?.used ?? new Set(), declared);
      declared.set(key, { name: key, description, value: value ?? '', location, deps });
    }
  }
  return { args, declared };
}

/** A default that adds to an earlier one needs what that needed. */
function dependencies(
  key: string,
  used: ReadonlySet<string>,
  declared: ReadonlyMap<string, OutlineArg>,
): ReadonlySet<string> {
  if (!used.has(key)) return used;
  const all = new Set([...used, ...(declared.get(key)?.deps ?? [])]);
  all.delete(key);
  return all;
}

function expandAt(
  value: string,
  args: VariableList,
  expansion: ExpandOptions,
  instruction: InstructionOf<'arg'>,
): Expansion {
  try {
    return expand(value, args, expansion);
  } catch (error) {
    throw atLocation(error, instruction.location);
  }
}
