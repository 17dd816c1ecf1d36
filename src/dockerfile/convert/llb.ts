import { BuildError } from '../../base/errors.ts';
import { file } from '../../llb/file.ts';
import type { FileStep, Node, Output, SourceLocation, SourceMap } from '../../llb/node.ts';
import { getEnv, type State, scratch } from '../../llb/state.ts';
import type { Platform } from '../../oci/platform.ts';
import type { Location } from '../errors.ts';
import type { Variables } from '../expand.ts';

const COMMAND_KEY = 'com.docker.dockerfile.v1.command';

/** The variables that a step in `state` would see. */
export function stateVariables(state: State): Variables {
  return { get: (name) => getEnv(state, name), keys: () => state.env.map(([name]) => name) };
}

/** Says which instruction a vertex comes from. */
export function commandDescription(code: string): Readonly<Record<string, string>> {
  return { [COMMAND_KEY]: code };
}

export function locationOf(map: SourceMap, location: Location): readonly SourceLocation[] {
  return [{ map, ranges: location }];
}

/** A tree with one file that the Dockerfile itself holds. */
export function inlineFile(step: FileStep, platform: Platform | undefined): State {
  return file(scratch(), [step], {
    customName: '[internal] preparing inline document',
    ...(platform ? { platform } : {}),
  });
}

/** A tree that is known when the graph is encoded, not yet when steps are put on it. */
export class LateTree implements Output {
  readonly index = 0;
  #real: Output | undefined;

  set(state: State): void {
    if (state.output === null || state.output.index !== 0)
      throw new BuildError('a build context must be the first output of a step');
    this.#real = state.output;
  }

  get node(): Node {
    if (!this.#real) throw new BuildError('internal: the build context is not known yet');
    return this.#real.node;
  }
}
