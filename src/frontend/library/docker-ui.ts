import { BuildError } from '../../base/errors.ts';
import { encodeImage, parseImage } from '../../dockerfile/convert/image.ts';
import type { NamedContext } from '../../dockerfile/convert/options.ts';
import type { FrontendResult, GatewayClient, Reference } from '../../gateway/types.ts';
import { Definition } from '../../llb/api/definition.ts';
import { Lazy } from '../../llb/api/lazy.ts';
import type { ImageConfig } from '../../llb/api/settings.ts';
import { SourceMap } from '../../llb/api/source-map.ts';
import { State } from '../../llb/api/state.ts';
import type { State as Tree } from '../../llb/state.ts';
import { normalizePlatform, parsePlatform, type Platform } from '../../oci/platform.ts';
import type { FrontendBridge } from '../build-bridge.ts';
import { BuildContext, type DockerfileSource } from '../dockerfile-context.ts';
import { NamedContexts } from '../dockerfile-named.ts';
import { type FrontendOptions, parseFrontendOptions } from '../dockerfile-options.ts';
import { platformId, platformResult, type PlatformTree } from '../platform-result.ts';
import { sourceTime } from '../source-time.ts';
import type { AskedSource } from '../subrequest-answers.ts';
import { publicConfig } from './config.ts';
import { gatewayBridge } from './gateway-bridge.ts';
import { answerQuestion } from './questions.ts';
import type {
  BuiltTree,
  DockerUi,
  DockerUiConfig,
  Entrypoint,
  LoadedContext,
  NamedContextOptions,
  PlatformTask,
  QuestionHandlers,
} from './types.ts';

const REQUEST = 'requestid';

/** @throws BuildError for options that make no sense, and for daemons that are too old */
export async function openDockerUi(gateway: GatewayClient): Promise<DockerUi> {
  if (!gateway.llbCapabilities.has('file.base')) throw new BuildError('needs BuildKit 0.5 or later');
  const bridge = await gatewayBridge(gateway);
  const options = parseFrontendOptions(bridge.options, bridge.workerPlatforms);
  return new OpenDockerUi(gateway, bridge, options);
}

class OpenDockerUi implements DockerUi {
  readonly config: DockerUiConfig;
  readonly #gateway: GatewayClient;
  readonly #bridge: FrontendBridge<Reference>;
  readonly #options: FrontendOptions;
  readonly #named: NamedContexts<Reference>;
  readonly #sources = new WeakMap<Entrypoint, AskedSource>();
  #opened: Promise<BuildContext<Reference>> | undefined;

  constructor(gateway: GatewayClient, bridge: FrontendBridge<Reference>, options: FrontendOptions) {
    this.config = publicConfig(options);
    this.#gateway = gateway;
    this.#bridge = bridge;
    this.#options = options;
    this.#named = new NamedContexts(bridge, options.localSessions);
  }

  /** Looked at when it is asked for: a context from the network is downloaded to see what it is. */
  #context(): Promise<BuildContext<Reference>> {
    this.#opened ??= BuildContext.open(this.#bridge, this.#options.localSessions);
    return this.#opened;
  }

  async readEntrypoint({ language = '' }: { readonly language?: string } = {}): Promise<Entrypoint> {
    const source = await (await this.#context()).readDockerfile();
    const entrypoint = this.#entrypoint(source, language);
    this.#sources.set(entrypoint, { ...source, language });
    return entrypoint;
  }

  #entrypoint({ text, data, filename, definition }: DockerfileSource, language: string): Entrypoint {
    const from = new Definition(definition);
    return {
      filename,
      data,
      text,
      sourceMap: new SourceMap({ filename, data, language, from }),
      warn: (message, options) =>
        this.#gateway.warn(from.head ?? '', message, { ...options, source: { filename, text, language } }),
    };
  }

  async mainContext({ paths }: { readonly paths?: readonly string[] } = {}): Promise<State> {
    return stateOf(await (await this.#context()).mainContext(paths));
  }

  async ignorePatterns(): Promise<readonly string[]> {
    return (await this.#context()).ignorePatterns();
  }

  async namedContext(name: string, options: NamedContextOptions = {}): Promise<LoadedContext | undefined> {
    const { platform, resolveMode = this.#options.imageResolveMode, paths, signal } = options;
    const found: NamedContext | undefined = this.#named.find(name, {
      resolveMode,
      paths: () => paths,
      ...(platform === undefined ? {} : { platform: platformOf(platform) }),
    });
    if (!found) return undefined;
    const { state, image } = await found.load(signal ? { signal } : {});
    return { state: stateOf(state), config: image && encodeImage(image) };
  }

  isNoCache(stage: string): boolean {
    return this.#options.isNoCache(stage);
  }

  async sourceTime(): Promise<bigint | undefined> {
    const state = await (await this.#context()).mainContext(undefined);
    return sourceTime(this.#bridge, state, '[internal] resolve main build context metadata');
  }

  async build(build: (task: PlatformTask) => Promise<BuiltTree>): Promise<FrontendResult> {
    const { targetPlatforms, multiPlatform } = this.config;
    const wanted = targetPlatforms.length > 0 ? targetPlatforms : [undefined];
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#gateway.signal, failed.signal]);
    const tasks = wanted.map(async (platform, index) => {
      const id = platformId(platform);
      return { id, platform, built: await build({ platform, index, id, signal }) };
    });
    try {
      const all = await Promise.all(tasks);
      const trees = all.map(({ platform, built }) => platformTree(platform, built));
      const said = all.flatMap(({ id, built: { attestations } }) =>
        attestations ? [[multiPlatform ? id : '', attestations] as const] : [],
      );
      return {
        ...plainResult(platformResult(trees, multiPlatform)),
        ...(said.length > 0 ? { attestations: Object.fromEntries(said) } : {}),
      };
    } catch (error) {
      failed.abort();
      await Promise.allSettled(tasks);
      throw error;
    }
  }

  async answer(handlers: QuestionHandlers, entrypoint?: Entrypoint): Promise<FrontendResult | undefined> {
    const name = this.#gateway.options[REQUEST];
    if (name === undefined) return undefined;
    return answerQuestion(name, handlers, entrypoint && this.#sources.get(entrypoint));
  }
}

function stateOf(tree: Tree): State {
  return new State(Lazy.of(tree));
}

function platformOf(platform: Platform | string): Platform {
  return typeof platform === 'string' ? parsePlatform(platform) : normalizePlatform(platform);
}

function platformTree(platform: Platform | undefined, tree: BuiltTree): PlatformTree<Reference> {
  const config = configBytes(tree.config);
  return {
    platform,
    ref: tree.ref ?? null,
    imagePlatform: parseImage(config).platform,
    config,
    ...(tree.baseConfig === undefined ? {} : { baseConfig: configBytes(tree.baseConfig) }),
    ...(tree.epoch === undefined ? {} : { epoch: BigInt(tree.epoch) }),
  };
}

function configBytes(config: ImageConfig): Uint8Array {
  if (config instanceof Uint8Array) return config;
  return new TextEncoder().encode(typeof config === 'string' ? config : JSON.stringify(config));
}

function plainResult({ ref, refs, metadata }: ReturnType<typeof platformResult<Reference>>): FrontendResult {
  return {
    metadata: Object.fromEntries(metadata),
    ...(refs
      ? { refs: Object.fromEntries([...refs].map(([id, one]) => [id, one ?? undefined])) }
      : { ref: ref ?? undefined }),
  };
}
