import { BuildError, Code } from '../../base/errors.ts';
import type { Platform } from '../../oci/platform.ts';
import { atLocation } from '../errors.ts';
import { type ExpandOptions, type Expansion, expand } from '../expand.ts';
import type { InstructionOf } from '../instructions/types.ts';
import { formatPlatform, formatPlatformFull } from '../../oci/platform.ts';
import { parseInt64 } from '../text.ts';
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

export interface Epoch {
  readonly seconds?: bigint;
  readonly globalArgs: VariableList;
  readonly buildArgs: ReadonlyMap<string, string>;
}

const EPOCH_ARG = 'SOURCE_DATE_EPOCH';

/**
 * SOURCE_DATE_EPOCH as a number of seconds (FEATURES H53). An empty value unsets it. `stageNames` are the
 * sources that a value may also name.
 */
export function resolveEpoch(
  globalArgs: VariableList,
  buildArgs: ReadonlyMap<string, string>,
  stageNames: readonly string[],
): Epoch {
  const written = buildArgs.get(EPOCH_ARG) ?? (globalArgs.get(EPOCH_ARG) || undefined);
  if (written === undefined) return { globalArgs, buildArgs };
  const nextArgs = new Map(buildArgs);
  if (written === '') {
    nextArgs.delete(EPOCH_ARG);
    return { globalArgs: globalArgs.without(EPOCH_ARG), buildArgs: nextArgs };
  }
  const seconds = parseInt64(written);
  if (seconds === undefined) throw refusedEpoch(written, stageNames);
  const text = seconds.toString();
  if (buildArgs.has(EPOCH_ARG)) nextArgs.set(EPOCH_ARG, text);
  const declared = globalArgs.get(EPOCH_ARG) !== undefined;
  return {
    seconds,
    globalArgs: declared ? globalArgs.with(EPOCH_ARG, text) : globalArgs,
    buildArgs: nextArgs,
  };
}

function refusedEpoch(written: string, stageNames: readonly string[]): BuildError {
  const name = written.toLowerCase();
  if (name !== 'context' && !stageNames.includes(name))
    return new BuildError(`invalid SOURCE_DATE_EPOCH: ${written}`);
  return new BuildError(`SOURCE_DATE_EPOCH: the time of ${written} can not be looked up yet`, {
    code: Code.unimplemented,
  });
}
