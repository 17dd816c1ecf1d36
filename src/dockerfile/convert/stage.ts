import { type State, scratch } from '../../llb/state.ts';
import type { Platform } from '../../oci/platform.ts';
import type { Location } from '../location.ts';
import type { ArgPair, Instruction, Stage } from '../instructions/types.ts';
import { cloneImage, emptyImage, type Image } from './image.ts';
import { OutlineNotes } from './outline.ts';
import type { NamedContext } from './options.ts';
import { lower } from '../text.ts';

export interface Command {
  readonly instruction: Instruction;
  /** What COPY --from and RUN --mount take files from, one per mount. */
  readonly sources: readonly StageState[];
  /** Comes from an ONBUILD trigger. */
  readonly isTrigger: boolean;
}

/** The part of a FROM that the conversion looks at; COPY --from=IMAGE has one too. */
export type StageHead = Pick<
  Stage,
  'name' | 'baseName' | 'code' | 'location' | 'instructions' | 'description'
>;

/** A stage while it is converted. */
export class StageState {
  readonly head: StageHead;
  /** Changes to the resolved reference. */
  baseName: string;
  /** In vertex names. */
  displayName: string;
  state: State = scratch();
  image: Image = emptyConfig();
  /** As it was pulled. */
  baseImage: Image | undefined;
  platform: Platform | undefined;
  base: StageState | undefined;
  namedContext: NamedContext | undefined;
  /** The state is complete. */
  dispatched = false;
  /** The base has been looked up. */
  resolved = false;
  triggersTaken = false;
  /** Stands for an image that no FROM names. */
  readonly unregistered: boolean;
  readonly deps = new Map<StageState, Location>();
  commands: readonly Command[] = [];
  args: ArgPair[] = [];
  /** Paths taken from the build context. */
  readonly contextPaths = new Set<string>();
  /** Paths of this stage that are used; shared with its base. */
  paths = new Set<string>();
  ignoreCache = false;
  commandIndex = 0;
  commandTotal = 0;
  inTrigger = false;
  /** Global ARGs that the FROM uses. */
  readonly argsOfFrom: string[] = [];
  outline = new OutlineNotes();
  /** WORKDIR has been set in this file. */
  workdirSet = false;
  /** Where CMD, ENTRYPOINT and HEALTHCHECK were last set. */
  readonly set = new Map<Instruction['kind'], Location>();

  constructor(head: StageHead, unregistered: boolean) {
    this.head = head;
    this.baseName = head.baseName;
    this.displayName = head.name;
    this.unregistered = unregistered;
  }

  /** Takes over what the base stage has become. */
  inherit(): void {
    const { base } = this;
    if (!base) return;
    this.state = base.state;
    this.platform = base.platform;
    this.image = cloneImage(base.image);
    this.image.config.onBuild = [];
    this.baseImage = base.baseImage;
    this.paths = base.paths;
    this.workdirSet = base.workdirSet;
    this.args = [...this.args, ...base.args];
  }
}

/** Before anything is known there is not even a PATH; of a context without a config it stays so. */
function emptyConfig(): Image {
  const image = emptyImage({ os: '', architecture: '' });
  image.config.env = [];
  image.config.workingDir = '';
  return { ...image, rootfs: { type: '', diffIds: undefined } };
}

/** All stages in the order of the file, then the images that COPY and RUN take files from. */
export class StageList {
  readonly all: StageState[] = [];
  readonly #byName = new Map<string, StageState>();

  add(stage: StageState): void {
    this.all.push(stage);
    stage.base = this.#byName.get(stage.baseName);
    if (stage.base) stage.outline = stage.base.outline.clone();
    if (stage.head.name !== '') this.#byName.set(lower(stage.head.name), stage);
  }

  byName(name: string): StageState | undefined {
    return this.#byName.get(lower(name));
  }

  names(): string[] {
    return this.all.map((stage) => stage.displayName).filter((name) => name !== '');
  }
}

/** The stages that `target` is made from, itself included. */
export function reachableFrom(target: StageState): Set<StageState> {
  // A set is visited in order of insertion, also what is added meanwhile.
  const found = new Set([target]);
  for (const stage of found) {
    if (stage.base) found.add(stage.base);
    for (const dep of stage.deps.keys()) found.add(dep);
  }
  return found;
}
