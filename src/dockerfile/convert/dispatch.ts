import { BuildError } from '../../base/errors.ts';
import { joinPath } from '../../llb/gopath.ts';
import type { State } from '../../llb/state.ts';
import type { PatternMatcher } from '../../match/patterns.ts';
import { type ExpandOptions, expandChecked } from '../expand.ts';
import type {
  AddInstruction,
  CopyInstruction,
  InlineFile,
  Instruction,
  SourcesAndDest,
} from '../instructions/types.ts';
import { checkVariables } from '../lint/instruction-checks.ts';
import type { Linter } from '../lint/linter.ts';
import { quote } from '../text.ts';
import { declaredIn, dispatchArg, dispatchConfig } from './config.ts';
import { dispatchCopy } from './copy.ts';
import { stateVariables } from './llb.ts';
import type { ConvertOptions } from './options.ts';
import type { PlatformChoice } from './resolve.ts';
import { dispatchRun } from './run.ts';
import type { Command, StageState } from './stage.ts';
import type { VariableList } from './variables.ts';
import { dispatchWorkdir } from './workdir.ts';

/** What all instructions of a conversion share. */
export interface DispatchContext {
  readonly options: ConvertOptions;
  readonly platforms: PlatformChoice;
  readonly buildArgs: ReadonlyMap<string, string>;
  readonly globalArgs: VariableList;
  readonly expansion: ExpandOptions;
  /** Stands for the build context, which is narrowed down when all paths are known. */
  readonly buildContext: State;
  /** SOURCE_DATE_EPOCH in seconds. */
  readonly epoch: bigint | undefined;
  /** Of the instruction at hand. */
  readonly lint: Linter;
  /** What the build context leaves out; undefined for nothing. */
  readonly ignore?: PatternMatcher;
}

type Expand = (word: string, options?: ExpandOptions) => string;

/** Applies one instruction to its stage. */
export function dispatch(stage: StageState, command: Command, shared: DispatchContext): void {
  const { instruction } = command;
  const context = { ...shared, lint: shared.lint.withComments(instruction.comments) };
  stage.inTrigger = command.isTrigger;
  const variables = stateVariables(stage.state);
  const word: Expand = (text, options = context.expansion) => {
    const check = (missing: ReadonlySet<string>): void =>
      checkVariables(missing, variables, declaredIn(stage), instruction.location, context.lint);
    return expandChecked(text, variables, options, check).text;
  };
  switch (instruction.kind) {
    case 'run':
      dispatchRun(stage, instruction, command.sources, word, context);
      return;
    case 'workdir':
      dispatchWorkdir(stage, { ...instruction, path: word(instruction.path) }, context);
      return;
    case 'add':
      dispatchAdd(stage, instruction, word, context);
      return;
    case 'copy':
      dispatchCopyFrom(stage, command, instruction, word, context);
      return;
    case 'arg':
      dispatchArg(stage, instruction, context);
      return;
    default:
      dispatchConfig(stage, expandConfig(instruction, word), context);
  }
}

type ConfigInstruction = Exclude<
  Instruction,
  { kind: 'run' } | { kind: 'workdir' } | { kind: 'add' } | { kind: 'copy' } | { kind: 'arg' }
>;

function expandConfig(instruction: ConfigInstruction, word: Expand): ConfigInstruction {
  switch (instruction.kind) {
    case 'env':
    case 'label':
      return {
        ...instruction,
        pairs: instruction.pairs.map((pair) => ({ ...pair, key: word(pair.key), value: word(pair.value) })),
      };
    case 'user':
      return { ...instruction, user: word(instruction.user) };
    case 'volume':
      return { ...instruction, volumes: instruction.volumes.map((volume) => word(volume)) };
    case 'stopsignal':
      return { ...instruction, signal: word(instruction.signal) };
    default:
      return instruction;
  }
}

function dispatchAdd(
  stage: StageState,
  written: AddInstruction,
  word: Expand,
  context: DispatchContext,
): void {
  const chown = word(written.chown);
  const chmod = word(written.chmod);
  const checksum = word(written.checksum);
  const instruction = { ...written, chown, chmod, checksum, ...expandPaths(written, word) };
  dispatchCopy(stage, instruction, { parents: false, source: context.buildContext }, context);
  for (const source of instruction.sources) {
    if (!/^https?:\/\//.test(source)) stage.contextPaths.add(joinPath('/', source));
  }
}

function dispatchCopyFrom(
  stage: StageState,
  command: Command,
  written: CopyInstruction,
  word: Expand,
  context: DispatchContext,
): void {
  const chown = word(written.chown);
  const chmod = word(written.chmod);
  const instruction = { ...written, chown, chmod, ...expandPaths(written, word) };
  const from = command.sources[0];
  if (from && !from.dispatched)
    throw new BuildError(
      `cannot copy from stage ${quote(written.from)}, it needs to be defined before current stage ${quote(stage.displayName)}`,
    );
  const source = from ? from.state : context.buildContext;
  dispatchCopy(stage, instruction, { parents: written.parents, source }, context);
  const used = from ? from.paths : stage.contextPaths;
  for (const path of instruction.sources) used.add(joinPath('/', path));
}

function expandPaths(written: SourcesAndDest, word: Expand): SourcesAndDest {
  const sources = written.sources.map((source) => word(source));
  const dest = word(written.dest);
  return { sources, dest, files: written.files.map((file) => expandBody(file, word)) };
}

/** In a heredoc's body quotes are text, and the escape character is always the backslash. */
function expandBody(file: InlineFile, word: Expand): InlineFile {
  if (!file.expand) return file;
  return { ...file, data: word(file.data, { escape: '\\', ignoreQuotes: true }) };
}
