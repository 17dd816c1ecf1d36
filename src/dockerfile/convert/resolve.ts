import { parseDigest } from '../../base/digest.ts';
import { BuildError } from '../../base/errors.ts';
import { image as imageState } from '../../llb/source.ts';
import { scratch, setPlatform } from '../../llb/state.ts';
import type { Platform } from '../../oci/platform.ts';
import { parseDockerfile } from '../parser.ts';
import { atLocation, onlyAt, reworded } from '../errors.ts';
import { type ExpandOptions, noVariables } from '../expand.ts';
import { parseInstruction } from '../instructions/parse.ts';
import { formatPlatformFull } from '../../oci/platform.ts';
import { formatReference, type ImageReference, parseReference, withDefaultTag } from '../../oci/reference.ts';
import { checkBasePlatform } from '../lint/from-checks.ts';
import type { Linter } from '../lint/linter.ts';
import { suggestion } from '../suggest.ts';
import { lower, quote } from '../text.ts';
import { addDependencies, commandOf, scratchName } from './graph.ts';
import { cloneImage, emptyImage, type Image, parseImage } from './image.ts';
import { commandDescription, locationOf } from './llb.ts';
import { vertexName } from './names.ts';
import type { ConvertOptions } from './options.ts';
import { usedPaths } from './used-paths.ts';
import { reachableFrom, type StageList, type StageState } from './stage.ts';

const COMMON_IMAGES = ['alpine', 'busybox', 'centos', 'debian', 'golang', 'ubuntu', 'fedora'];

export interface PlatformChoice {
  readonly target: Platform;
  readonly build: readonly Platform[];
  /** The client named no target. */
  readonly implicit: boolean;
}

/** Looks up what the stages stand on. */
export class BaseResolver {
  readonly #options: ConvertOptions;
  readonly #platforms: PlatformChoice;
  readonly #stages: StageList;
  readonly #expansion: ExpandOptions;
  readonly #lint: Linter;
  /** Ends the look-ups that run when one of them has failed. */
  #abort = new AbortController();

  constructor(
    options: ConvertOptions,
    platforms: PlatformChoice,
    stages: StageList,
    expansion: ExpandOptions,
    lint: Linter,
  ) {
    this.#options = options;
    this.#platforms = platforms;
    this.#stages = stages;
    this.#expansion = expansion;
    this.#lint = lint;
  }

  /**
   * Resolves the bases of all stages that `target` needs, in parallel, and runs again while their
   * ONBUILD triggers bring new sources.
   */
  async resolve(target: StageState): Promise<Set<StageState>> {
    for (;;) {
      const reachable = reachableFrom(target);
      await this.#resolveBases(reachable);
      const grown = [...reachable].map((stage) => this.#takeTriggers(stage)).some(Boolean);
      if (!grown) return reachable;
    }
  }

  async #resolveBases(reachable: ReadonlySet<StageState>): Promise<void> {
    const pulled: (() => Promise<void>)[] = [];
    this.#abort = new AbortController();
    for (const stage of this.#stages.all) {
      if (stage.base || stage.dispatched || stage.resolved) continue;
      const needed = this.#options.allStages === true || reachable.has(stage);
      stage.resolved = needed;
      if (stage.baseName === scratchName && !stage.namedContext) this.#startEmpty(stage);
      else pulled.push(() => this.#resolveBase(stage, needed));
    }
    // The last one starts first: of several that fail at once its error is the one BuildKit tells.
    const order = [...pulled.slice(-1), ...pulled.slice(0, -1)];
    await firstFailure(
      order.map((start) => start()),
      this.#abort,
    );
  }

  #startEmpty(stage: StageState): void {
    stage.state = scratch();
    stage.image = emptyImage(this.#platforms.target);
    stage.platform = this.#platforms.target;
    stage.dispatched ||= stage.unregistered;
  }

  async #resolveBase(stage: StageState, needed: boolean): Promise<void> {
    try {
      // What messages call the image: the full name once a stage was looked at before a trigger needed it.
      const named = stage.baseName;
      const reference = this.#reference(stage);
      const platform = stage.platform ?? this.#platforms.target;
      stage.baseName = formatReference(withDefaultTag(reference));
      if (!needed) this.#useImage(stage, platform);
      else if (stage.namedContext) await this.#useContext(stage);
      else if (!(await this.#useNamedBase(stage, platform)))
        await this.#pull(stage, named, reference, platform);
    } catch (error) {
      throw atLocation(error, stage.head.location);
    } finally {
      stage.dispatched ||= stage.unregistered;
    }
  }

  #reference(stage: StageState): ImageReference {
    try {
      return parseReference(stage.baseName);
    } catch (error) {
      throw BuildError.wrap(error, `failed to parse stage name ${quote(stage.baseName)}`);
    }
  }

  /** The stage's own name stands for a context: its instructions do not run. */
  async #useContext(stage: StageState): Promise<void> {
    const { state, image } = await stage.namedContext!.load(this.#signal());
    stage.dispatched = true;
    stage.state = state;
    if (!image) return;
    stage.image = withoutCreated(image);
    if (image.platform.architecture !== '' && image.platform.os !== '') stage.platform = image.platform;
  }

  /** The base's name stands for a context. */
  async #useNamedBase(stage: StageState, platform: Platform): Promise<boolean> {
    const named = this.namedContext(stage.baseName, stage, platform);
    if (!named) return false;
    const { state, image = emptyImage(platform) } = await named.load(this.#signal());
    stage.baseImage = image;
    stage.image = withoutCreated(image);
    stage.state = setPlatform(state, platform);
    stage.platform = platform;
    return true;
  }

  namedContext(name: string, stage: StageState, platform = stage.platform) {
    if (['scratch', 'context'].includes(lower(name))) return undefined;
    const chosen = platform ?? this.#options.targetPlatform;
    return this.#options.namedContext(name, {
      resolveMode: this.#options.imageResolveMode,
      paths: () => usedPaths(stage.paths),
      ...(chosen ? { platform: chosen } : {}),
    });
  }

  async #pull(stage: StageState, named: string, reference: ImageReference, wanted: Platform): Promise<void> {
    const { multiPlatform } = this.#options;
    const prefix = multiPlatform ? `[${formatPlatformFull(wanted)} internal]` : '[internal]';
    const resolved = await this.#options
      .resolveImage(stage.baseName, {
        platform: wanted,
        logName: `${prefix} load metadata for ${stage.baseName}`,
        resolveMode: this.#options.imageResolveMode,
        ...this.#signal(),
      })
      .catch((error: unknown) => {
        throw this.#unresolved(named, error);
      });
    const image = parsePulled(resolved.config);
    const own = stage.platform === undefined && this.#platforms.implicit;
    const platform = own ? imagePlatform(image.platform, wanted, this.#platforms.build) : wanted;
    stage.baseImage = image;
    stage.image = withoutCreated(image);
    stage.baseName = pinned(reference, resolved.ref, resolved.digest);
    if (hasNoLayers(image)) {
      stage.state = scratch();
      stage.platform = platform;
      return;
    }
    this.#useImage(stage, platform);
    checkBasePlatform(named, platform, image.platform, stage.head.location, this.#lint);
  }

  #useImage(stage: StageState, platform: Platform): void {
    const shown = this.#options.multiPlatform ? platform : undefined;
    stage.state = imageState(stage.baseName, {
      platform,
      resolveMode: this.#options.imageResolveMode,
      customName: vertexName(stage, `FROM ${stage.baseName}`, shown, noVariables),
      description: commandDescription(stage.head.code),
      locations: locationOf(this.#options.sourceMap, stage.head.location),
    });
    stage.platform = platform;
  }

  #unresolved(name: string, error: unknown): BuildError {
    const inner = BuildError.wrap(error, name);
    const images = COMMON_IMAGES.flatMap((image) => {
      const long = `docker.io/library${image}`;
      return [image, long, `${image}:latest`, `${long}:latest`];
    });
    const hint = suggestion(name, [...this.#stages.names(), ...images], true);
    return reworded(inner, inner.message + hint);
  }

  /** Puts the ONBUILD triggers of the base in front; true when they need something new. */
  #takeTriggers(stage: StageState): boolean {
    stage.inherit();
    const triggers = [...stage.image.config.onBuild];
    if (stage.base && !stage.triggersTaken) {
      for (const { instruction } of stage.base.commands) {
        if (instruction.kind === 'onbuild') triggers.push(instruction.expression);
      }
      stage.triggersTaken = true;
    }
    if (triggers.length === 0) return false;
    try {
      return this.#addTriggers(stage, triggers);
    } catch (error) {
      throw onlyAt(error, stage.head.location);
    } finally {
      stage.image.config.onBuild = [];
    }
  }

  #addTriggers(stage: StageState, triggers: readonly string[]): boolean {
    const start = stage.head.location[0]?.start.line ?? 0;
    const end = stage.head.location.at(-1)?.end.line ?? 0;
    const commands = triggers.map((trigger) => {
      const { nodes } = parseDockerfile(trigger);
      if (nodes.length !== 1) throw new BuildError('onbuild trigger should be a single expression');
      const instruction = parseInstruction({ ...nodes[0]!, startLine: start, endLine: end });
      const command = commandOf(instruction, this.#stages, this.#expansion, true);
      addDependencies(stage, command, this.#stages);
      return command;
    });
    stage.commands = [...commands, ...stage.commands];
    stage.commandTotal += commands.length;
    return commands.some((command) => command.sources.length > 0);
  }

  #signal(): { signal: AbortSignal } {
    const { signal } = this.#options;
    const own = this.#abort.signal;
    return { signal: signal ? AbortSignal.any([signal, own]) : own };
  }
}

/** Waits for all, then throws the first failure in order of time, which ends the others. */
async function firstFailure(pending: readonly Promise<void>[], abort: AbortController): Promise<void> {
  await Promise.all(pending).catch(async (error: unknown) => {
    abort.abort();
    await Promise.allSettled(pending);
    throw error;
  });
}

function parsePulled(config: Uint8Array): Image {
  try {
    return parseImage(config);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse image config');
  }
}

function withoutCreated(image: Image): Image {
  return { ...cloneImage(image), created: undefined };
}

/** Without a wish for a platform the image may be of any that the worker can run. */
function imagePlatform(image: Platform, wanted: Platform, supported: readonly Platform[]): Platform {
  const same = (p: Platform) => p.os === image.os && p.architecture === image.architecture;
  return same(wanted) ? wanted : (supported.find(same) ?? wanted);
}

function pinned(reference: ImageReference, resolvedRef: string, digest: string): string {
  let chosen = reference;
  if (formatReference(reference) !== resolvedRef) {
    try {
      chosen = parseReference(resolvedRef);
    } catch (error) {
      throw BuildError.wrap(error, `failed to parse ref ${quote(resolvedRef)}`);
    }
  }
  return formatReference(digest === '' ? chosen : { ...chosen, digest: parseDigest(digest) });
}

/** Old images do not list their layers: the history tells then. */
function hasNoLayers(image: Image): boolean {
  return (image.rootfs.diffIds ?? []).length === 0 && image.history.every((entry) => entry.emptyLayer);
}
