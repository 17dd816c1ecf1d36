import { BuildError } from '../../base/errors.ts';
import { normalizePlatform } from '../../oci/platform.ts';
import { hostPlatform } from '../../oci/platform.ts';
import { NetMode } from '../../llb/ops.ts';
import { type State, scratch, setEnv, setHostname, setNetwork, stateOf } from '../../llb/state.ts';
import type { Platform } from '../../oci/platform.ts';
import { atLocation } from '../errors.ts';
import { findDirective } from '../directives.ts';
import { type ExpandOptions, expand, MAX_TOTAL_LENGTH } from '../expand.ts';
import { PatternMatcher } from '../../match/patterns.ts';
import { parseStages } from '../instructions/parse.ts';
import type { StagedFile } from '../instructions/types.ts';
import { checkContinuations, checkDefaultBases, checkStages } from '../lint/file-checks.ts';
import { type LintConfig, Linter, parseLintConfig } from '../lint/linter.ts';
import { parseDockerfile } from '../parser.ts';
import { setUser } from './config.ts';
import { dispatch, type DispatchContext } from './dispatch.ts';
import { type Epoch, resolveEpoch } from './epoch.ts';
import { automaticArgs, declareGlobalArgs } from './globals.ts';
import { addDependencies, commandOf, countSteps, refuseLoops, stageOf, targetStage } from './graph.ts';
import { defaultPath, type Image } from './image.ts';
import { LateTree } from './llb.ts';
import type { ConvertOptions, ConvertResult } from './options.ts';
import { type OutlineArg, outlineOf } from './outline.ts';
import { BaseResolver, type PlatformChoice } from './resolve.ts';
import { scanTargets } from './scan.ts';
import { StageList, type StageState } from './stage.ts';
import { usedPaths } from './used-paths.ts';
import { setWorkdir } from './workdir.ts';

const NETWORKS = { sandbox: NetMode.UNSET, host: NetMode.HOST, none: NetMode.NONE } as const;

/**
 * Turns a Dockerfile into the LLB state and the image config of its target (FEATURES H). Aborting
 * stops the lookups of base images.
 * @throws {LocatedError} with the lines of the instruction at fault
 */
export async function convertDockerfile(text: string, options: ConvertOptions): Promise<ConvertResult> {
  if (text === '') throw new BuildError('the Dockerfile cannot be empty');
  const lint = new Linter(options.lint ?? fileLint(text), options.warn);
  const parsed = parseDockerfile(text);
  checkContinuations(parsed.emptyContinuations, lint);
  const file = parseStages(parsed.nodes, lint);
  if (file.stages.length === 0) throw new BuildError('dockerfile contains no stages to build');
  checkStages(file.stages, lint);
  return new Conversion(
    file,
    { escape: parsed.escape, budget: { left: MAX_TOTAL_LENGTH } },
    options,
    lint,
  ).run();
}

/** What the `check` directive of the file says. */
function fileLint(text: string): LintConfig {
  try {
    return parseLintConfig(findDirective(text, 'check')?.value ?? '');
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse check options');
  }
}

class Conversion {
  readonly #file: StagedFile;
  readonly #expansion: ExpandOptions;
  readonly #options: ConvertOptions;
  readonly #platforms: PlatformChoice;
  readonly #stages = new StageList();
  readonly #resolver: BaseResolver;
  #mainContext: State | undefined;
  #context: DispatchContext;
  readonly #lint: Linter;
  readonly #declared: ReadonlyMap<string, OutlineArg>;

  constructor(file: StagedFile, expansion: ExpandOptions, options: ConvertOptions, lint: Linter) {
    this.#file = file;
    this.#expansion = expansion;
    this.#options = options;
    this.#lint = lint;
    this.#platforms = choosePlatforms(options);
    this.#resolver = new BaseResolver(options, this.#platforms, this.#stages, expansion, lint);
    const [build = hostPlatform()] = this.#platforms.build;
    const stageName = options.target || (file.stages.at(-1)?.name ?? '');
    const automatic = automaticArgs(build, this.#platforms.target, stageName, options.buildArgs);
    checkDefaultBases(
      file.stages,
      (base) => {
        const defaults = declareGlobalArgs(automatic, file.globalArgs, new Map(), expansion);
        return expand(base, defaults.args, expansion).text;
      },
      lint,
    );
    const { args, declared } = declareGlobalArgs(automatic, file.globalArgs, options.buildArgs, expansion);
    this.#declared = declared;
    this.#context = {
      options,
      platforms: this.#platforms,
      buildArgs: options.buildArgs,
      globalArgs: args,
      expansion,
      buildContext: stateOf(new LateTree(() => this.#mainContext ?? scratch())),
      epoch: undefined,
      lint,
    };
  }

  async run(): Promise<ConvertResult> {
    const { seconds, ...args } = await this.#epoch();
    this.#context = { ...this.#context, ...args, epoch: seconds };
    this.#addStages();
    const target = targetStage(this.#stages, this.#options.target);
    this.#connect();
    const ignore = this.#ignored();
    ignore.catch(() => undefined); // a failure waits for its turn
    const needed = await this.#resolver.resolve(target);
    const paths = this.#dispatchStages(needed, await ignore);
    target.paths.add('/');
    for (const [key, value] of this.#options.labels) target.image.config.labels.set(key, value);
    this.#lint.finish();
    this.#mainContext = await this.#options.mainContext(usedPaths(paths));
    const { epoch } = this.#context;
    return {
      state: target.state,
      platform: this.#platforms.target,
      image: this.#finalImage(target.image),
      ...(target.baseImage ? { baseImage: target.baseImage } : {}),
      ...(epoch === undefined ? {} : { epoch }),
      outline: () => outlineOf(target),
      scan: () => scanTargets(target, this.#context),
    };
  }

  #epoch(): Promise<Epoch> {
    const { options, globalArgs, expansion } = this.#context;
    return resolveEpoch({ options, globalArgs, expansion, stages: this.#file.stages });
  }

  async #ignored(): Promise<PatternMatcher | undefined> {
    const patterns = (await this.#options.ignorePatterns?.()) ?? [];
    return patterns.length === 0 ? undefined : new PatternMatcher(patterns);
  }

  #addStages(): void {
    const scope = {
      args: this.#context.globalArgs,
      declared: this.#declared,
      expansion: this.#expansion,
    };
    this.#file.stages.forEach((written, index) => {
      const stage = stageOf(written, { ...scope, lint: this.#lint.withComments(written.comments) });
      const named = written.name === '' ? undefined : this.#resolver.namedContext(written.name, stage);
      this.#stages.add(stage);
      if (named) {
        stage.namedContext = named;
        stage.base = undefined;
        return;
      }
      stage.outline.use(stage.argsOfFrom);
      if (written.name === '') stage.displayName = `stage-${index}`;
      stage.commandTotal = countSteps(stage);
      stage.ignoreCache = this.#options.isNoCache(written.name);
    });
  }

  /** Finds out which stage needs which. */
  #connect(): void {
    const written = [...this.#stages.all];
    for (const stage of written) {
      stage.commands = stage.head.instructions.map((instruction) => {
        const command = commandOf(instruction, this.#stages, this.#expansion, false);
        addDependencies(stage, command, this.#stages);
        return command;
      });
    }
    refuseLoops(this.#stages.all);
    const [only, ...others] = this.#stages.all;
    if (only && others.length === 0) only.displayName = '';
  }

  /** Returns the paths taken from the build context. */
  #dispatchStages(needed: ReadonlySet<StageState>, ignore: PatternMatcher | undefined): Set<string> {
    const paths = new Set<string>();
    const context = ignore ? { ...this.#context, ignore } : this.#context;
    for (const stage of this.#stages.all) {
      if (!this.#options.allStages && (!needed.has(stage) || stage.dispatched)) continue;
      stage.inherit();
      stage.dispatched = true;
      this.#begin(stage);
      for (const command of stage.commands) {
        try {
          dispatch(stage, command, context);
        } catch (error) {
          throw atLocation(error, command.instruction.location);
        }
      }
      for (const path of stage.contextPaths) paths.add(path);
    }
    return paths;
  }

  /** Takes the settings of the base's config over into the state. */
  #begin(stage: StageState): void {
    const { config } = stage.image;
    const os = stage.platform?.os;
    if (!config.env.some((entry) => entry.split('=', 1)[0] === 'PATH') && os !== 'windows')
      config.env.push(`PATH=${defaultPath}`);
    for (const entry of config.env) {
      const at = entry.indexOf('=');
      const key = at < 0 ? entry : entry.slice(0, at);
      stage.state = setEnv(stage.state, key, at < 0 ? '' : entry.slice(at + 1));
    }
    const { hostname, networkMode } = this.#options;
    if (hostname !== '') stage.state = setHostname(stage.state, hostname);
    try {
      if (config.workingDir !== '') setWorkdir(stage, config.workingDir);
    } catch (error) {
      throw atLocation(error, stage.head.location);
    }
    if (config.user !== '') setUser(stage, config.user);
    stage.state = setNetwork(stage.state, NETWORKS[networkMode]);
  }

  /** The platform that was asked for wins over the one of the base's config. */
  #finalImage(image: Image): Image {
    const { target, implicit } = this.#platforms;
    const own = image.platform;
    if (implicit) return { ...image, platform: normalizePlatform(own) };
    const same = target.os === own.os && target.architecture === own.architecture;
    const platform: Platform = {
      os: target.os,
      architecture: target.architecture,
      ...pick('variant', target.variant || (same ? own.variant : undefined)),
      ...pick('osVersion', target.osVersion || (same ? own.osVersion : undefined)),
      ...pick('osFeatures', target.osFeatures ?? own.osFeatures),
    };
    return { ...image, platform: normalizePlatform(platform) };
  }
}

function pick<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [key]: value } as Partial<Record<K, V>>);
}

function choosePlatforms(options: ConvertOptions): PlatformChoice {
  const { targetPlatform, buildPlatforms } = options;
  const fallback = targetPlatform ?? hostPlatform();
  const build = buildPlatforms.length > 0 ? buildPlatforms : [fallback];
  return { target: targetPlatform ?? build[0] ?? fallback, build, implicit: targetPlatform === undefined };
}
