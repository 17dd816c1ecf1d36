import { BuildError } from '../../base/errors.ts';
import { parseGitRef } from '../../giturl/git-ref.ts';
import { git, http } from '../../llb/source.ts';
import type { State } from '../../llb/state.ts';
import { atLocation } from '../errors.ts';
import { type ExpandOptions, expand } from '../expand.ts';
import type { AddInstruction, Stage } from '../instructions/types.ts';
import { lower, parseInt64, quote } from '../text.ts';
import type { ConvertOptions } from './options.ts';
import { downloadName, gitOptions, isHttpSource, parseDigest } from './remote-source.ts';
import type { VariableList } from './variables.ts';

const EPOCH_ARG = 'SOURCE_DATE_EPOCH';
const MAIN_CONTEXT = 'context';

export interface Epoch {
  readonly seconds?: bigint;
  readonly globalArgs: VariableList;
  readonly buildArgs: ReadonlyMap<string, string>;
}

export interface EpochScope {
  readonly options: Pick<
    ConvertOptions,
    'buildArgs' | 'mainContext' | 'namedContext' | 'sourceTime' | 'signal'
  >;
  readonly globalArgs: VariableList;
  readonly stages: readonly Stage[];
  readonly expansion: ExpandOptions;
}

/**
 * SOURCE_DATE_EPOCH as a number of seconds, which every stage then sees (FEATURES H53): a number, or the name of
 * a source whose own time counts. Unset when empty, or when the source has none.
 */
export async function resolveEpoch(scope: EpochScope): Promise<Epoch> {
  const { globalArgs, options } = scope;
  const { buildArgs } = options;
  const written = buildArgs.get(EPOCH_ARG) ?? (globalArgs.get(EPOCH_ARG) || undefined);
  if (written === undefined) return { globalArgs, buildArgs };
  const seconds = written === '' ? undefined : (parseInt64(written) ?? (await timeOf(written, scope)));
  const text = seconds?.toString();
  const nextArgs = new Map(buildArgs);
  if (buildArgs.has(EPOCH_ARG)) {
    if (text === undefined) nextArgs.delete(EPOCH_ARG);
    else nextArgs.set(EPOCH_ARG, text);
  }
  const declared = globalArgs.get(EPOCH_ARG) !== undefined;
  const nextGlobals = text === undefined ? globalArgs.without(EPOCH_ARG) : globalArgs.with(EPOCH_ARG, text);
  return {
    ...(seconds === undefined ? {} : { seconds }),
    globalArgs: declared ? nextGlobals : globalArgs,
    buildArgs: nextArgs,
  };
}

async function timeOf(name: string, scope: EpochScope): Promise<bigint | undefined> {
  const { sourceTime } = scope.options;
  const [state, title] = await sourceOf(name, scope);
  return state && sourceTime?.(state, title);
}

/** The tree that the name stands for, and how its lookup is called. */
async function sourceOf(name: string, scope: EpochScope): Promise<[State | undefined, string]> {
  const { options } = scope;
  const hasContexts = options.sourceTime !== undefined;
  if (name === MAIN_CONTEXT) {
    const state = hasContexts ? await options.mainContext(undefined) : undefined;
    return [state, '[internal] resolve main build context metadata'];
  }
  const context = hasContexts
    ? options.namedContext(name, { resolveMode: 'default', paths: () => undefined })
    : undefined;
  if (context) {
    const { state } = await context.load(options.signal ? { signal: options.signal } : {});
    return [state, `[internal] resolve SOURCE_DATE_EPOCH named context ${name}`];
  }
  const stage = scope.stages.find((one) => one.name !== '' && one.name === lower(name));
  if (!stage) throw new BuildError(`invalid SOURCE_DATE_EPOCH: ${name}`);
  try {
    return [stageSource(stage, scope), `[internal] resolve SOURCE_DATE_EPOCH source stage ${stage.name}`];
  } catch (error) {
    throw atLocation(error, stage.location);
  }
}

/** What the one ADD of a stage brings that does nothing else. */
function stageSource(stage: Stage, { globalArgs, options, expansion }: EpochScope): State {
  let variables = globalArgs.without(EPOCH_ARG);
  const word = (text: string): string => expand(text, variables, expansion).text;
  let base: string;
  try {
    base = word(stage.baseName);
  } catch (error) {
    throw BuildError.wrap(error, `failed to process source stage base name ${quote(stage.baseName)}`);
  }
  if (base !== 'scratch') throw new BuildError('SOURCE_DATE_EPOCH stage must use FROM scratch');
  let found: State | undefined;
  for (const instruction of stage.instructions) {
    if (instruction.kind === 'add') {
      if (found) throw new BuildError('SOURCE_DATE_EPOCH stage must contain exactly one remote ADD');
      found = addedSource(instruction, word);
    } else if (instruction.kind === 'arg') {
      for (const { key, value } of instruction.args) {
        const given = options.buildArgs.get(key) ?? (value === undefined ? undefined : word(value));
        if (given !== undefined) variables = variables.with(key, given);
      }
    } else {
      throw new BuildError(
        `SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported ${instruction.name} instruction`,
      );
    }
  }
  if (!found) throw new BuildError('SOURCE_DATE_EPOCH stage must contain exactly one remote ADD');
  return found;
}

function addedSource(instruction: AddInstruction, word: (text: string) => string): State {
  const [written, ...more] = instruction.sources;
  if (written === undefined || more.length > 0 || instruction.files.length > 0)
    throw new BuildError('SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source');
  const address = word(written);
  const checksum = instruction.checksum === '' ? '' : word(instruction.checksum);
  if (isHttpSource(address))
    return http(address, {
      filename: downloadName(address),
      ...(checksum === '' ? {} : { checksum: parseDigest(checksum) }),
    });
  const repository = parseGitRef(address);
  if (!repository || repository.looksLocal)
    throw new BuildError('SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD');
  const { skipSubmodules, ref, subdir } = gitOptions(repository);
  return git(repository.remote, {
    ...(ref === undefined ? {} : { ref }),
    ...(subdir === undefined ? {} : { subdir }),
    ...(skipSubmodules ? { skipSubmodules } : {}),
    ...(instruction.keepGitDir || repository.keepGitDir ? { keepGitDir: true } : {}),
    checksum: checksum || repository.checksum,
  });
}
