import { BuildError } from '../../base/errors.ts';
import type { Platform } from '../../oci/platform.ts';
import { atLocation } from '../errors.ts';
import type { Location } from '../location.ts';
import { type ExpandOptions, type Expansion, expand, expandChecked, noVariables } from '../expand.ts';
import type { Instruction, Stage } from '../instructions/types.ts';
import { parsePlatform } from '../../oci/platform.ts';
import { checkFromArgs, checkPlatform } from '../lint/from-checks.ts';
import type { Linter } from '../lint/linter.ts';
import { suggestion } from '../suggest.ts';
import { parseInt64, quote } from '../text.ts';
import { type OutlineArg, OutlineNotes } from './outline.ts';
import { type Command, type StageList, StageState } from './stage.ts';
import type { VariableList } from './variables.ts';

/** Name of the empty image. */
export const scratchName = 'scratch';
/** Instructions that are steps of the build and counted in vertex names. */
const STEPS: readonly Instruction['kind'][] = ['add', 'copy', 'run', 'workdir'];

/** What the variables of a FROM are filled in from. `declared` are the global ARGs, also those unset. */
export interface FromScope {
  readonly args: VariableList;
  readonly declared: ReadonlyMap<string, OutlineArg>;
  readonly expansion: ExpandOptions;
  readonly lint: Linter;
}

/** Fills in the variables of a FROM. */
export function stageOf(stage: Stage, scope: FromScope): StageState {
  const { args, declared, expansion, lint } = scope;
  const check = (missing: ReadonlySet<string>): void =>
    checkFromArgs(missing, args, [...declared.keys()], stage.location, lint);
  const base = located(stage.location, () => expandChecked(stage.baseName, args, expansion, check));
  if (base.text === '')
    throw atLocation(new BuildError(`base name (${stage.baseName}) should not be blank`), stage.location);
  const state = new StageState(
    {
      name: stage.name,
      baseName: base.text,
      code: stage.code,
      location: stage.location,
      instructions: stage.instructions,
      description: stage.description,
    },
    false,
  );
  state.outline = new OutlineNotes(declared);
  state.argsOfFrom.push(...base.used);
  if (stage.platform !== '') state.platform = stagePlatform(stage, scope, state.argsOfFrom);
  return state;
}

/** Adds the names of the variables it uses to `used`. */
function stagePlatform(
  stage: Stage,
  { args, declared, expansion, lint }: FromScope,
  used: string[],
): Platform {
  let value: Expansion;
  try {
    value = expandChecked(stage.platform, args, expansion, (missing) =>
      checkFromArgs(missing, args, [...declared.keys()], stage.location, lint),
    );
  } catch (error) {
    throw atLocation(BuildError.wrap(error, 'failed to process arguments for platform '), stage.location);
  }
  checkPlatform(stage, value, args, lint);
  used.push(...value.used);
  const hint = () => missingHint(value, args);
  if (value.text === '')
    throw atLocation(
      new BuildError(`empty platform value from expression ${stage.platform}${hint()}`),
      stage.location,
    );
  try {
    return parsePlatform(value.text);
  } catch (error) {
    const { message } = BuildError.from(error);
    const problem = new BuildError(`failed to parse platform ${stage.platform}: ${message}${hint()}`);
    throw atLocation(atLocation(problem, stage.location), stage.location);
  }
}

/** Suggests a name for the first unset variable that looks like one that exists. */
function missingHint(value: Expansion, args: VariableList): string {
  for (const name of value.missing) {
    const hint = suggestion(name, args.keys(), true);
    if (hint !== '') return hint;
  }
  return '';
}

/** Number of steps that the stage shows. */
export function countSteps(stage: StageState): number {
  const steps = stage.head.instructions.filter(({ kind }) => STEPS.includes(kind)).length;
  return steps + (stage.baseName !== scratchName && !stage.base ? 1 : 0);
}

/** Finds what an instruction takes files from. Images that no FROM names become stages of their own. */
export function commandOf(
  instruction: Instruction,
  stages: StageList,
  expansion: ExpandOptions,
  isTrigger: boolean,
): Command {
  return { instruction, sources: sourcesOf(instruction, stages, expansion), isTrigger };
}

function sourcesOf(
  instruction: Instruction,
  stages: StageList,
  expansion: ExpandOptions,
): readonly StageState[] {
  if (instruction.kind === 'run')
    // A mount without a source stands on the empty image here; binds then take the build context.
    return instruction.mountSources.map(
      (from) => stages.byName(from || scratchName) ?? imageStage(from || scratchName, []),
    );
  if (instruction.kind !== 'copy' || instruction.from === '') return [];
  const { from } = instruction;
  if (expand(from, noVariables, expansion).text !== from)
    throw new BuildError(
      'variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround',
    );
  const index = parseInt64(from);
  if (index === undefined) return [stages.byName(from) ?? imageStage(from, instruction.location)];
  const stage = stages.all[Number(index)];
  if (!stage) throw new BuildError(`invalid stage index ${index}`);
  return [stage];
}

function imageStage(baseName: string, location: Location): StageState {
  return new StageState({ name: '', baseName, code: '', location, instructions: [], description: '' }, true);
}

/** Notes what the command needs, and adds images that only it names to the list. */
export function addDependencies(stage: StageState, command: Command, stages: StageList): void {
  for (const source of command.sources) {
    stage.deps.set(source, command.instruction.location);
    if (source.unregistered) stages.add(source);
  }
}

/** @throws {LocatedError} with the location of every instruction on the loop */
export function refuseLoops(stages: readonly StageState[]): void {
  const done = new Set<StageState>();
  for (const stage of stages) {
    const loop = findLoop(stage, done);
    if (!loop) continue;
    const error = new BuildError(`circular dependency detected on stage: ${stage.displayName}`);
    throw loop.reduce<BuildError>((inner, location) => atLocation(inner, location), error);
  }
}

/** Walks depth first from `start` over stages that are not `done`; the instructions on the way into a loop. */
function findLoop(start: StageState, done: Set<StageState>): readonly Location[] | undefined {
  if (done.has(start)) return undefined;
  done.add(start);
  const open = new Set([start]);
  const path = [{ stage: start, deps: start.deps.entries() }];
  const locations: Location[] = [];
  for (let top = path.at(-1); top; top = path.at(-1)) {
    const next = top.deps.next();
    if (next.done) {
      open.delete(top.stage);
      path.pop();
      locations.pop();
      continue;
    }
    const [dep, location] = next.value;
    if (open.has(dep)) return [...locations, location];
    if (done.has(dep)) continue;
    done.add(dep);
    open.add(dep);
    path.push({ stage: dep, deps: dep.deps.entries() });
    locations.push(location);
  }
  return undefined;
}

export function targetStage(stages: StageList, target: string): StageState {
  if (target === '') return stages.all.at(-1)!;
  const stage = stages.byName(target);
  if (!stage)
    throw new BuildError(
      `target stage ${quote(target)} could not be found${suggestion(target, stages.names(), true)}`,
    );
  return stage;
}

function located<T>(location: Location, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw atLocation(error, location);
  }
}
