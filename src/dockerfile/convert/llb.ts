import { BuildError } from '../../base/errors.ts';
import { file, parseOwner } from '../../llb/file.ts';
import type { FileStep, Node, Output, Owner, SourceLocation, SourceMap } from '../../llb/node.ts';
import { getEnv, type State, scratch } from '../../llb/state.ts';
import type { Platform } from '../../oci/platform.ts';
import type { Location } from '../location.ts';
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

/** Owner of what a step makes: `user[:group]`. An empty part is root. */
export function ownerOf(chown: string): ReturnType<typeof parseOwner> {
  const { user, group } = parseOwner(chown);
  return { ...(user ? { user: known(user) } : {}), ...(group ? { group: known(group) } : {}) };
}

function known(owner: Owner): Owner {
  return 'name' in owner && owner.name === '' ? { id: 0 } : owner;
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
  readonly #make: () => State;
  #output: Output | undefined;

  /** `make` is asked once, when the tree is first looked at. */
  constructor(make: () => State) {
    this.#make = make;
  }

  get node(): Node {
    return this.#real().node;
  }

  get index(): number {
    return this.#real().index;
  }

  #real(): Output {
    if (!this.#output) {
      const { output } = this.#make();
      if (!output) throw new BuildError('the empty tree can not be used as a context');
      this.#output = output;
    }
    return this.#output;
  }
}
