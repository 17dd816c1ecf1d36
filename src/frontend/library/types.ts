import type {
  Attestation,
  CacheOption,
  Definition,
  FrontendResult,
  Reference,
  WarnOptions,
} from '../../gateway/types.ts';
import type { Resources } from '../../llb/api/options.ts';
import type { ExtraHost, ImageConfig, Network } from '../../llb/api/settings.ts';
import type { SourceMap } from '../../llb/api/source-map.ts';
import type { State } from '../../llb/api/state.ts';
import type { Platform } from '../../oci/platform-type.ts';
import type { SourceRange } from '../../solver/status-types.ts';

/**
 * What `docker build`, buildx and `buildctl` ask of any frontend that builds from a file: their options, understood. Made
 * to be handed on to `run` and `image` of buildkit-ts/llb.
 */
export interface DockerUiConfig {
  /** `build-arg:NAME`. */
  readonly buildArgs: Readonly<Record<string, string>>;
  /** `label:NAME`, for the image config. */
  readonly labels: Readonly<Record<string, string>>;
  /** '' when none is named. */
  readonly target: string;
  /** `platform`, normalized; empty when the client asks for none. */
  readonly targetPlatforms: readonly Platform[];
  /** Of the daemon's first worker: where steps run without an emulator. */
  readonly buildPlatform: Platform;
  /** The result is to name its platforms, also a single one. */
  readonly multiPlatform: boolean;
  /** `force-network-mode`. */
  readonly network: Network;
  /** '' for the daemon's own. */
  readonly hostname: string;
  /** `add-hosts`. */
  readonly extraHosts: readonly ExtraHost[];
  /** Bytes of /dev/shm; undefined for the daemon's default. */
  readonly shmSize: bigint | undefined;
  readonly ulimits: readonly { readonly name: string; readonly soft: bigint; readonly hard: bigint }[];
  /** '' for the daemon's own. */
  readonly cgroupParent: string;
  /** `memory`, `cpuquota`, …: those that were given. */
  readonly resources: Resources | undefined;
  readonly imageResolveMode: 'default' | 'pull' | 'local';
  /** Goes in front of the ids of cache mounts. */
  readonly cacheNamespace: string;
  /** `cache-imports` and `cache-from`, for `solve`. */
  readonly cacheImports: readonly CacheOption[];
  /** Asked for by `attest:sbom`: image of the scanner, and variables for it. */
  readonly sbom:
    | { readonly generator: string; readonly parameters: Readonly<Record<string, string>> }
    | undefined;
}

/** The file that a build is described by. */
export interface Entrypoint {
  readonly filename: string;
  readonly data: Uint8Array;
  /** The same as text. */
  readonly text: string;
  /** For locations of steps, so that errors show lines of the file. */
  readonly sourceMap: SourceMap;
  /** Shows a warning at the step that brought the file; lines by `ranges`. */
  warn(message: string, options?: Omit<WarnOptions, 'source'>): Promise<void>;
}

/** A name that the client gave a meaning of its own. */
export interface LoadedContext {
  /** With the settings of its image config, if it has one. */
  readonly state: State;
  /** The image config's JSON, where the context is an image. */
  readonly config: Uint8Array | undefined;
}

/** What a named context is wanted for. */
export interface NamedContextOptions {
  /** Default: this machine's. Contexts may be meant for one platform only. */
  readonly platform?: Platform | string;
  /** Default: that of the config. */
  readonly resolveMode?: 'default' | 'pull' | 'local';
  /** Of a local folder: all that is needed of it, links followed. Everything when left out. */
  readonly paths?: readonly string[];
  readonly signal?: AbortSignal;
}

/** A tree that was built for one platform. */
export interface BuiltTree {
  /** undefined is the empty tree. */
  readonly ref: Reference | undefined;
  /** The image config: an object, its JSON as text, or as bytes. */
  readonly config: ImageConfig;
  /** Config of the image that the tree stands on. */
  readonly baseConfig?: ImageConfig;
  /** For the times in the image: SOURCE_DATE_EPOCH in seconds since 1970. */
  readonly epoch?: number | bigint;
  readonly attestations?: readonly Attestation[];
}

/** One platform of a build. */
export interface PlatformTask {
  /** undefined when the client asks for none. */
  readonly platform: Platform | undefined;
  /** Place in `targetPlatforms`. */
  readonly index: number;
  /** Name of the tree in the result, when platforms are named. */
  readonly id: string;
  /** Aborts when the build ends, or another platform has failed. */
  readonly signal: AbortSignal;
}

/** What a client can give to a build. */
export interface BuildOutline {
  readonly name?: string;
  readonly description?: string;
  readonly args?: readonly {
    readonly name: string;
    readonly description?: string;
    readonly value?: string;
    readonly location?: readonly SourceRange[];
  }[];
  readonly secrets?: readonly OutlineNeed[];
  readonly ssh?: readonly OutlineNeed[];
}

/** A secret or an agent that a build asks for. */
export interface OutlineNeed {
  readonly name: string;
  readonly required?: boolean;
  readonly location?: readonly SourceRange[];
}

/** Something that can be built. */
export interface BuildTarget {
  readonly name: string;
  readonly isDefault?: boolean;
  readonly description?: string;
  readonly base?: string;
  readonly platform?: string;
  readonly location?: readonly SourceRange[];
}

/** Something that is wrong with a file, and does not break the build. */
export interface LintFinding {
  readonly rule: string;
  readonly message: string;
  readonly description?: string;
  readonly url?: string;
  readonly location?: readonly SourceRange[];
}

/** What a check has found. */
export interface LintReport {
  readonly warnings: readonly LintFinding[];
  /** Why the build could not go on. */
  readonly error?: { readonly message: string; readonly location?: readonly SourceRange[] };
}

/** Answers to questions about the file that clients put in place of a build; those that are left out are refused. */
export interface QuestionHandlers {
  /** `frontend.outline` */
  readonly outline?: () => BuildOutline | Promise<BuildOutline>;
  /** `frontend.targets` */
  readonly targets?: () => readonly BuildTarget[] | Promise<readonly BuildTarget[]>;
  /** `frontend.lint`, of `docker buildx build --check` */
  readonly lint?: () => LintReport | Promise<LintReport>;
  /** `frontend.convertllb`: the graph that would be built. */
  readonly graph?: () => Definition | Promise<Definition>;
  /** Any other question; undefined refuses it. */
  readonly other?: (name: string) => FrontendResult | undefined | Promise<FrontendResult | undefined>;
}

/** A build as clients of Dockerfiles ask for it. Every call throws BuildError. */
export interface DockerUi {
  readonly config: DockerUiConfig;
  /** The file named by `filename` (Dockerfile), from where the client says. `language` names it in errors. */
  readEntrypoint(options?: { readonly language?: string }): Promise<Entrypoint>;
  /**
   * The build context: the client's folder without what its ignore file names, a repository, an unpacked archive, or
   * what another build has made. `paths` is all that is needed of a folder; everything when left out.
   */
  mainContext(options?: { readonly paths?: readonly string[] }): Promise<State>;
  /** Lines of the ignore file, `<file>.dockerignore` beside the entrypoint (once read) or that of the context. */
  ignorePatterns(): Promise<readonly string[]>;
  /** What the client has put in place of the image or stage `name` (`context:NAME`); undefined when nothing. */
  namedContext(name: string, options?: NamedContextOptions): Promise<LoadedContext | undefined>;
  /** Whether a stage is to be built anew; `no-cache` without names is all of them. */
  isNoCache(stage: string): boolean;
  /** Time of a context from the network, in seconds since 1970: of the commit, or as its server says. */
  sourceTime(): Promise<bigint | undefined>;
  /** Builds all platforms side by side, each by `build`, and puts the result together. */
  build(build: (task: PlatformTask) => Promise<BuiltTree>): Promise<FrontendResult>;
  /** Answers the question that was put in place of a build; undefined when a build is asked for. */
  answer(handlers: QuestionHandlers, entrypoint?: Entrypoint): Promise<FrontendResult | undefined>;
}
