import { BuildError } from '../../base/errors.ts';
import { type GitRef, parseGitRef } from '../../giturl/git-ref.ts';
import { merge } from '../../llb/combine.ts';
import { copy, file, mkfile } from '../../llb/file.ts';
import { joinPath } from '../../llb/gopath.ts';
import type { Constraints, CopyOptions, FileStep } from '../../llb/node.ts';
import { git, http } from '../../llb/source.ts';
import { type State, scratch, withOutput } from '../../llb/state.ts';
import type { AddInstruction, CopyInstruction } from '../instructions/types.ts';
import { checkIgnored } from '../lint/instruction-checks.ts';
import { cut, quote } from '../text.ts';
import type { DispatchContext } from './dispatch.ts';
import { addHistory } from './history.ts';
import { commandDescription, inlineFile, locationOf, ownerOf, stateVariables } from './llb.ts';
import { instructionText, vertexName } from './names.ts';
import { encodeText } from '../bytes.ts';
import { isAbsolute, normalizePath, relativeToDrive, toSlash } from './paths.ts';
import { downloadName, gitOptions, isGitSource, isHttpSource, parseDigest } from './remote-source.ts';
import type { StageState } from './stage.ts';

const MAX_MODE = 0o7777;
const SYMBOLIC_MODE = /^[augo]*(?:[-+=][rstwXxugo]*)+(?:,[augo]*(?:[-+=][rstwXxugo]*)+)*$/;

export interface CopySource {
  /** Where paths are taken from. */
  readonly source: State;
  readonly parents: boolean;
}

/** Applies ADD or COPY with all variables expanded (FEATURES H41-H46). */
export function dispatchCopy(
  stage: StageState,
  instruction: AddInstruction | CopyInstruction,
  from: CopySource,
  context: DispatchContext,
): void {
  new CopyDispatch(stage, instruction, from, context).run();
}

class CopyDispatch {
  readonly #stage: StageState;
  readonly #instruction: AddInstruction | CopyInstruction;
  readonly #from: CopySource;
  readonly #context: DispatchContext;
  readonly #os: string;
  #keepGitDir: boolean | undefined;
  #checksum = '';

  constructor(
    stage: StageState,
    instruction: AddInstruction | CopyInstruction,
    from: CopySource,
    context: DispatchContext,
  ) {
    this.#stage = stage;
    this.#instruction = instruction;
    this.#from = from;
    this.#context = context;
    this.#os = stage.platform?.os || 'linux';
    if (instruction.kind !== 'add') return;
    this.#keepGitDir = instruction.keepGitDir;
    this.#checksum = instruction.checksum;
  }

  run(): void {
    const { sources, files, dest, chmod } = this.#instruction;
    const target = this.#destination(dest);
    const mode = chmod === '' ? undefined : parseMode(chmod);
    this.#checkChecksum();
    const name = this.#name();
    const common = this.#commonOptions(mode);
    const steps = [
      ...sources.map((source) => this.#fromSource(source, target, common, name.first)),
      ...files.map(({ name: path, data }) => this.#fromInline(path, data, target, common)),
    ];
    this.#apply(steps, name);
    addHistory(this.#stage.image, this.#historyText(), { layer: true, suffix: true }, this.#context.epoch);
  }

  #destination(dest: string): string {
    const written = relativeToDrive(dest, this.#os, true);
    if (isAbsolute(written, this.#os)) return normalizePath('/', written, this.#os, true);
    const relative = written === '.' || written === '' ? './' : written;
    return normalizePath(this.#stage.state.dir, relative, this.#os, true);
  }

  #checkChecksum(): void {
    const instruction = this.#instruction;
    if (instruction.kind !== 'add' || instruction.checksum === '') return;
    const [source, ...more] = instruction.sources;
    if (source === undefined || more.length > 0)
      throw new BuildError("checksum can't be specified for multiple sources");
    if (!isHttpSource(source) && !isGitSource(source))
      throw new BuildError('checksum requires HTTP(S) or Git sources');
  }

  /** Vertex name now, and again for the vertices that share its number. */
  #name(): { first: string; again: (prefix: string) => string } {
    const { multiPlatform } = this.#context.options;
    const stage = this.#stage;
    const platform = multiPlatform ? (stage.platform ?? this.#context.platforms.target) : undefined;
    const variables = stateVariables(stage.state);
    const text = instructionText(this.#instruction.code, variables, this.#context.expansion);
    const again = (prefix: string) => {
      stage.commandIndex--;
      return vertexName(stage, prefix + text, platform, variables);
    };
    return { first: vertexName(stage, text, platform, variables), again };
  }

  #commonOptions(mode: number | string | undefined): CopyOptions {
    const { chown, exclude } = this.#instruction;
    return {
      createDestPath: true,
      ...(mode === undefined ? {} : { mode }),
      ...(chown === '' ? {} : { owner: ownerOf(chown) }),
      ...(exclude.length === 0 ? {} : { excludePatterns: exclude }),
    };
  }

  #fromSource(source: string, target: string, common: CopyOptions, name: string): FileStep {
    const repository = parseGitRef(source);
    if (repository && !repository.looksLocal) return this.#fromGit(repository, target, common, name);
    if (isHttpSource(source)) return this.#fromUrl(source, target, common, name);
    return this.#fromPath(source, target, common);
  }

  #fromGit(repository: GitRef, target: string, common: CopyOptions, customName: string): FileStep {
    if (this.#instruction.kind === 'copy') throw new BuildError("source can't be a git ref for COPY");
    const { keepGitDir, checksum } = repository;
    if (this.#keepGitDir !== undefined && keepGitDir !== undefined && this.#keepGitDir !== keepGitDir)
      throw new BuildError('inconsistent keep-git-dir configuration');
    if (this.#checksum !== '' && checksum !== '' && this.#checksum !== checksum)
      throw new BuildError(`checksum mismatch ${quote(this.#checksum)} != ${quote(checksum)}`);
    // What one source says holds for those behind it, too.
    this.#keepGitDir ??= keepGitDir;
    this.#checksum ||= checksum;
    const state = git(repository.remote, {
      ...gitOptions(repository),
      ...(this.#keepGitDir ? { keepGitDir: true } : {}),
      checksum: this.#checksum,
      customName,
    });
    return copy(state, '/', target, common);
  }

  /** Downloads are unpacked only when asked for. */
  #fromUrl(url: string, target: string, common: CopyOptions, customName: string): FileStep {
    const instruction = this.#instruction;
    if (instruction.kind === 'copy') throw new BuildError("source can't be a URL for COPY");
    const name = downloadName(url);
    const checksum = this.#checksum;
    const state = http(url, {
      filename: name,
      ...(checksum === '' ? {} : { checksum: parseDigest(checksum) }),
      customName,
      description: commandDescription(''),
    });
    return copy(state, name, target, {
      ...common,
      ...(instruction.unpack ? { attemptUnpack: true } : {}),
    });
  }

  #fromPath(source: string, target: string, common: CopyOptions): FileStep {
    const instruction = this.#instruction;
    const isAdd = instruction.kind === 'add';
    const unpack = isAdd ? (instruction.unpack ?? true) : false;
    this.#checkIgnored(source);
    const { path, ...narrowed } = this.#from.parents ? this.#withParents(source) : { path: source };
    return copy(this.#from.source, this.#absolute(path), target, {
      ...common,
      followSymlinks: true,
      dirContentsOnly: true,
      allowWildcard: true,
      allowEmptyWildcard: true,
      ...(unpack ? { attemptUnpack: true } : {}),
      ...narrowed,
    });
  }

  /** Only the build context has an ignore file. */
  #checkIgnored(source: string): void {
    const { ignore, buildContext, lint } = this.#context;
    if (!ignore || this.#from.source !== buildContext) return;
    const verb = this.#instruction.kind === 'add' ? 'Add' : 'Copy';
    checkIgnored(source, verb, ignore, this.#instruction.location, lint);
  }

  /** `--parents`: what stands behind `/./` keeps its directories. */
  #withParents(source: string): { path: string; includePatterns: string[]; requiredPaths?: string[] } {
    const [before, after] = cut(source, '/./');
    const path = after === undefined ? '/' : before;
    const pattern = this.#absolute(after ?? source);
    const includePatterns = [pattern.replace(/^\//, '')];
    if (hasWildcards(path) || hasWildcards(pattern)) return { path, includePatterns };
    return { path, includePatterns, requiredPaths: [this.#absolute(joinPath(path, pattern))] };
  }

  #absolute(path: string): string {
    try {
      return normalizePath('/', path, this.#os, false);
    } catch (error) {
      throw BuildError.wrap(error, 'removing drive letter');
    }
  }

  #fromInline(name: string, data: string, target: string, common: CopyOptions): FileStep {
    const path = relativeToDrive(name, this.#os, false);
    const state = inlineFile(mkfile(path, 0o644, encodeText(data)), this.#stage.platform);
    return copy(state, toSlash(path, this.#os), target, common);
  }

  #apply(steps: readonly FileStep[], name: { first: string; again: (prefix: string) => string }): void {
    const stage = this.#stage;
    const { options } = this.#context;
    const constraints: Constraints = {
      customName: name.first,
      locations: locationOf(options.sourceMap, this.#instruction.location),
      ...(stage.ignoreCache ? { ignoreCache: true } : {}),
    };
    const { link, chmod } = this.#instruction;
    if (!link || chmod !== '' || !options.caps?.has('mergeop')) {
      stage.state = file(stage.state, steps, constraints);
      return;
    }
    const id = options.newId?.() ?? crypto.randomUUID().replaceAll('-', '');
    const group = { id, name: name.again('') };
    const copied = file(scratch(), steps, {
      ...(stage.platform ? { platform: stage.platform } : {}),
      ...constraints,
      progressGroup: { ...group, weak: true },
    });
    const merged = merge([stage.state, copied], {
      ...constraints,
      progressGroup: { ...group, weak: false },
      customName: name.again('LINK '),
    });
    stage.state = withOutput(stage.state, merged.output, merged.platform);
  }

  #historyText(): string {
    const { kind, chown, chmod, sources, files, dest } = this.#instruction;
    const words = [
      kind.toUpperCase(),
      ...(this.#from.parents ? ['--parents'] : []),
      ...(chown === '' ? [] : [`--chown=${chown}`]),
      ...(chmod === '' ? [] : [`--chmod=${chmod}`]),
      ...sources,
      ...files.map((inline) => `<<${inline.name}`),
      dest,
    ];
    return words.join(' ');
  }
}

/** Octal bits as number, symbolic modes as they are. */
function parseMode(chmod: string): number | string {
  const invalid = new BuildError(
    `invalid chmod parameter: '${chmod}'. it should be octal string and between 0 and 07777`,
  );
  if (/^[0-7]+$/.test(chmod)) {
    const mode = Number.parseInt(chmod, 8);
    if (mode > MAX_MODE) throw invalid;
    return mode;
  }
  if (SYMBOLIC_MODE.test(chmod)) return chmod;
  throw /^[0-9]/.test(chmod) ? invalid : new BuildError('invalid syntax');
}

function hasWildcards(path: string): boolean {
  return /[*?[]/.test(path.replace(/\\./gs, ''));
}
