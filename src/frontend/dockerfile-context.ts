import { BuildError, Code, hasCode } from '../base/errors.ts';
import { fromDefinition } from '../llb/definition-state.ts';
import { copy, file } from '../llb/file.ts';
import { marshal } from '../llb/marshal.ts';
import type { Constraints } from '../llb/node.ts';
import type { Definition } from '../llb/ops.ts';
import { http, type LocalOptions, local } from '../llb/source.ts';
import { type State, scratch } from '../llb/state.ts';
import { readIgnoreFile } from '../match/ignorefile.ts';
import { basePath, dirPath, joinPath } from '../match/paths.ts';
import { PatternMatcher } from '../match/patterns.ts';
import { decodeText } from '../dockerfile/bytes.ts';
import { isArchive } from './archive-header.ts';
import type { BuildRef, FrontendBridge } from './build-bridge.ts';
import { gitContext, mainGitOptions } from './dockerfile-git.ts';

const DEFAULT_NAME = 'Dockerfile';
const IGNORE_NAME = '.dockerignore';
const DOWNLOAD_NAME = 'context';
/** Enough of a download to tell an archive. */
const PROBE_BYTES = 1024;

export interface DockerfileSource {
  readonly text: string;
  readonly data: Uint8Array;
  readonly filename: string;
  /** What brought the file; absent for a file that came in as input without steps. */
  readonly definition: Definition;
}

/** Where the Dockerfile and the files of a build come from (FEATURES H1, H2, H14, H51). */
export class BuildContext<R> {
  readonly #bridge: FrontendBridge<R>;
  readonly #localSessions: ReadonlyMap<string, string>;
  readonly #filename: string;
  readonly #contextName: string;
  readonly #dockerfileName: string;
  /** A context that is not a local folder. */
  readonly #remote: State | undefined;
  readonly #dockerfile: State | undefined;
  #ignore: { readonly name: string; readonly data: Uint8Array } | undefined;
  #patterns: Promise<readonly string[]> | undefined;

  private constructor(
    bridge: FrontendBridge<R>,
    localSessions: ReadonlyMap<string, string>,
    place: { filename: string; dockerfileName: string; remote?: State; dockerfile?: State },
  ) {
    this.#bridge = bridge;
    this.#localSessions = localSessions;
    this.#filename = place.filename;
    this.#contextName = 'context';
    this.#dockerfileName = place.dockerfileName;
    this.#remote = place.remote;
    this.#dockerfile = place.dockerfile;
  }

  static async open<R>(
    bridge: FrontendBridge<R>,
    localSessions: ReadonlyMap<string, string>,
  ): Promise<BuildContext<R>> {
    const { options } = bridge;
    const named = options.get('dockerfilekey');
    const dockerfileName = named ?? 'dockerfile';
    const filename = options.get('filename') ?? DEFAULT_NAME;
    const found = await remoteContext(bridge, options.get(options.get('contextkey') ?? 'context') ?? '');
    const inputs = found ? undefined : inputContext(bridge, dockerfileName);
    const whole = found?.context ?? inputs?.context;
    const subdir = options.get('contextsubdir');
    const remote = whole && subdir !== undefined ? scoped(whole, subdir) : whole;
    const dockerfile = named === undefined ? (found?.context ?? inputs?.dockerfile) : undefined;
    return new BuildContext(bridge, localSessions, {
      filename: found?.filename ?? filename,
      dockerfileName,
      ...(remote ? { remote } : {}),
      ...(dockerfile ? { dockerfile } : {}),
    });
  }

  /** Reads the Dockerfile, and the ignore file that lies beside it. */
  async readDockerfile(): Promise<DockerfileSource> {
    const filename = this.#filename;
    const state = this.#dockerfile ?? this.#localDockerfile();
    const definition = marshal(state);
    const ref = await this.#bridge.solve(definition, []).catch((error: unknown) => {
      throw BuildError.wrap(error, 'failed to resolve dockerfile');
    });
    const data = await this.#read(ref, filename);
    await this.#takeIgnoreFile(ref, `${filename}${IGNORE_NAME}`);
    return { text: decodeText(data), data, filename, definition };
  }

  #localDockerfile(): State {
    const filename = this.#filename;
    const lower = lowerCaseName(filename);
    return this.#local(this.#dockerfileName, {
      followPaths: [filename, `${filename}${IGNORE_NAME}`, ...(lower === undefined ? [] : [lower])],
      sharedKeyHint: this.#dockerfileName,
      customName: `[internal] load build definition from ${filename}`,
      differ: { type: 'none' },
    });
  }

  async #read(ref: BuildRef<R> | null, filename: string): Promise<Uint8Array> {
    try {
      return await readFrom(ref, filename);
    } catch (error) {
      const lower = lowerCaseName(filename);
      const other = lower === undefined ? undefined : await readFrom(ref, lower).catch(() => undefined);
      if (other) return other;
      throw BuildError.wrap(error, 'failed to read dockerfile');
    }
  }

  async #takeIgnoreFile(ref: BuildRef<R> | null, name: string): Promise<void> {
    const data = await readIgnore(ref, name); // most builds have none beside the Dockerfile
    if (data) this.#ignore = { name, data };
  }

  /** Patterns of files that stay away from the build. Only local contexts have them. */
  ignorePatterns(): Promise<readonly string[]> {
    if (this.#remote) return Promise.resolve([]);
    this.#patterns ??= this.#loadPatterns();
    return this.#patterns;
  }

  async #loadPatterns(): Promise<readonly string[]> {
    const { name, data } = this.#ignore ?? (await this.#contextIgnoreFile());
    const patterns = parsePatterns(name, data);
    new PatternMatcher(patterns); // refuses a bad pattern
    return patterns;
  }

  async #contextIgnoreFile(): Promise<{ name: string; data: Uint8Array }> {
    const state = this.#local(this.#contextName, ignoreFileOptions(this.#contextName, '[internal]'));
    const ref = await this.#bridge.solve(marshal(state), []);
    return { name: IGNORE_NAME, data: await readOrNothing(ref) };
  }

  /** The build context, narrowed to `paths` (undefined is everything). */
  async mainContext(paths: readonly string[] | undefined): Promise<State> {
    if (this.#remote) return this.#remote;
    const excludePatterns = await this.ignorePatterns();
    return this.#local(this.#contextName, {
      excludePatterns,
      sharedKeyHint: this.#contextName,
      customName: '[internal] load build context',
      ...(paths ? { followPaths: paths } : {}),
    });
  }

  #local(name: string, options: LocalOptions & Constraints): State {
    return local(name, { sessionId: this.#localSessions.get(name) ?? this.#bridge.sessionId, ...options });
  }
}

/** Options of the local source that brings only the ignore file. */
export function ignoreFileOptions(key: string, prefix: string): LocalOptions {
  return {
    followPaths: [IGNORE_NAME],
    sharedKeyHint: `${key}-${IGNORE_NAME}`,
    customName: `${prefix} load ${IGNORE_NAME}`,
    differ: { type: 'none' },
  };
}

/** Content of the ignore file, empty when there is none. */
export async function readOrNothing<R>(ref: BuildRef<R> | null): Promise<Uint8Array> {
  return (await readIgnore(ref, IGNORE_NAME)) ?? new Uint8Array(); // without the file nothing is ignored
}

/** undefined when it can not be read; one that is too large does not count as absent. */
async function readIgnore<R>(ref: BuildRef<R> | null, name: string): Promise<Uint8Array | undefined> {
  try {
    return await readFrom(ref, name);
  } catch (error) {
    if (hasCode(error, Code.resourceExhausted)) throw error;
    return undefined;
  }
}

export function parsePatterns(name: string, data: Uint8Array): readonly string[] {
  try {
    return readIgnoreFile(data);
  } catch (error) {
    throw BuildError.wrap(error, `failed parsing ${name}`);
  }
}

/** A file may also be called `dockerfile`. */
function lowerCaseName(filename: string): string | undefined {
  if (basePath(filename) !== DEFAULT_NAME) return undefined;
  return joinPath(dirPath(filename), DEFAULT_NAME.toLowerCase());
}

async function readFrom<R>(
  ref: BuildRef<R> | null,
  path: string,
  range?: { offset: number; length: number },
): Promise<Uint8Array> {
  if (!ref) throw new BuildError(`open ${path}: no such file or directory`);
  return ref.readFile(path, range);
}

/** A context from the network: a repository, an archive that is unpacked, or a file that is the Dockerfile itself. */
async function remoteContext<R>(
  bridge: FrontendBridge<R>,
  address: string,
): Promise<{ context: State; filename?: string } | undefined> {
  const repository = gitContext(address, mainGitOptions(bridge.options));
  if (repository) return { context: repository };
  if (!/^https?:\/\//.test(address)) return undefined;
  const download = http(address, {
    filename: DOWNLOAD_NAME,
    customName: '[internal] load remote build context',
  });
  const ref = await bridge.solve(marshal(download), []).catch((error: unknown) => {
    throw BuildError.wrap(error, 'failed to resolve httpcontext');
  });
  const range = { offset: 0, length: PROBE_BYTES };
  const head = await readFrom(ref, DOWNLOAD_NAME, range).catch((error: unknown) => {
    throw BuildError.wrap(error, 'failed to read downloaded context');
  });
  if (!isArchive(head)) return { context: download, filename: DOWNLOAD_NAME };
  const unpacked = file(scratch(), [copy(download, `/${DOWNLOAD_NAME}`, '/', { attemptUnpack: true })]);
  return { context: unpacked };
}

/** All inputs are looked at together: an empty one is told whichever is asked for. */
export function checkInputs(inputs: Readonly<Record<string, Definition>>): void {
  for (const { def } of Object.values(inputs))
    if (def.length === 0) throw new BuildError('invalid nil input definition to definition op');
}

function inputContext<R>(
  bridge: FrontendBridge<R>,
  dockerfileName: string,
): { context?: State; dockerfile?: State } {
  const context = bridge.inputs.context;
  const dockerfile = bridge.inputs[dockerfileName];
  try {
    checkInputs(bridge.inputs);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to get frontend inputs');
  }
  return {
    ...(context ? { context: fromDefinition(context) } : {}),
    ...(dockerfile ? { dockerfile: fromDefinition(dockerfile) } : {}),
  };
}

function scoped(context: State, subdir: string): State {
  return file(scratch(), [copy(context, subdir, '/', { dirContentsOnly: true })]);
}
