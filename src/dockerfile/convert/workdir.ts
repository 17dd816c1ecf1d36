import { file, mkdir } from '../../llb/file.ts';
import { setDir } from '../../llb/state.ts';
import type { InstructionOf } from '../instructions/types.ts';
import type { DispatchContext } from './dispatch.ts';
import { addHistory } from './history.ts';
import { locationOf, ownerOf, stateVariables } from './llb.ts';
import { instructionText, vertexName } from './names.ts';
import { rules } from '../lint/rules.ts';
import { quote } from '../text.ts';
import { isAbsolute, normalizeWorkdir, toSlash } from './paths.ts';
import type { StageState } from './stage.ts';

const NANOSECONDS = 1_000_000_000n;

/** Changes the directory; returns it with slashes. */
export function setWorkdir(stage: StageState, path: string): string {
  const os = stage.platform?.os || 'linux';
  const directory = normalizeWorkdir(stage.image.config.workingDir, path, os);
  stage.image.config.workingDir = directory;
  const slashed = toSlash(directory, os);
  stage.state = setDir(stage.state, slashed);
  return slashed;
}

/** WORKDIR: a directory that is not there is made (FEATURES H48). */
export function dispatchWorkdir(
  stage: StageState,
  instruction: InstructionOf<'workdir'>,
  context: DispatchContext,
): void {
  const os = stage.platform?.os || 'linux';
  if (!stage.workdirSet && !isAbsolute(instruction.path, os))
    context.lint.report(rules.workdirRelativePath(quote(instruction.path)), instruction.location);
  stage.workdirSet = true;
  const directory = setWorkdir(stage, instruction.path);
  if (directory !== '/') {
    const variables = stateVariables(stage.state);
    const platform = stage.platform ?? context.platforms.target;
    const text = instructionText(instruction.code, variables, context.expansion);
    const { user } = stage.image.config;
    const step = mkdir(directory, 0o755, {
      makeParents: true,
      ...(user === '' ? {} : { owner: ownerOf(user) }),
      ...(context.epoch === undefined ? {} : { createdTime: context.epoch * NANOSECONDS }),
    });
    stage.state = file(stage.state, [step], {
      customName: vertexName(stage, text, context.options.multiPlatform ? platform : undefined, variables),
      locations: locationOf(context.options.sourceMap, instruction.location),
      platform,
    });
  }
  addHistory(stage.image, `WORKDIR ${directory}`, { layer: directory !== '/' }, context.epoch);
}
