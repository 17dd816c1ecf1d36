import type { Location } from '../location.ts';

/** An image that a FROM, or a `--from`, stands for. */
export interface ResolvedImage {
  /** Digest of the manifest or index, `sha256:…`; the definition is pinned to it. Left out, it is not pinned. */
  readonly digest?: string;
  /** The image config: its JSON, as bytes, as text or parsed. */
  readonly config: Uint8Array | string | object;
}

/** What an image is wanted for. */
export interface ResolveOptions {
  /** `os/architecture[/variant]` */
  readonly platform: string;
  readonly resolveMode: 'default' | 'pull' | 'local';
  readonly signal?: AbortSignal;
}

/**
 * Looks an image up. Asked once for each reference and platform, several at a time. What it throws ends the conversion,
 * with the name of the image in front of its message.
 * @param reference in full: `docker.io/library/alpine:3.20`
 */
export type ImageResolver = (
  reference: string,
  options: ResolveOptions,
) => ResolvedImage | Promise<ResolvedImage>;

/** A limit as setrlimit(2) takes it; `name` is `nofile`, `core`, … */
export interface Ulimit {
  readonly name: string;
  readonly soft: number | bigint;
  readonly hard: number | bigint;
}

/** All that a build may say beside the file. */
export interface ConvertOptions {
  /** Without it, only files whose stages start from `scratch` can be converted. */
  readonly resolveImage?: ImageResolver;
  /** `--build-arg` */
  readonly buildArgs?: Readonly<Record<string, string>>;
  /** `--target`; the last stage when left out. */
  readonly target?: string;
  /** `--platform`: `os/architecture[/variant]`. Left out, the build platform, and the config keeps that of its base. */
  readonly platform?: string;
  /** Where steps run; this machine's when left out. */
  readonly buildPlatform?: string;
  /** The result is one of several platforms: names of steps show it. */
  readonly multiPlatform?: boolean;
  /** `--label`, added to the image config. */
  readonly labels?: Readonly<Record<string, string>>;
  /** `--network`: what RUN without `--network` gets. */
  readonly network?: 'sandbox' | 'host' | 'none';
  readonly hostname?: string;
  /** `--add-host` */
  readonly extraHosts?: readonly { readonly host: string; readonly ip: string }[];
  /** `--shm-size`, bytes. */
  readonly shmSize?: number | bigint;
  readonly ulimits?: readonly Ulimit[];
  readonly cgroupParent?: string;
  /** `--pull` is `pull`. */
  readonly resolveMode?: 'default' | 'pull' | 'local';
  /** In front of the ids of cache mounts. */
  readonly cacheIdNamespace?: string;
  /** `--no-cache` (true), or the stages of `--no-cache-filter`. */
  readonly noCache?: boolean | readonly string[];
  /** Content of the .dockerignore file. */
  readonly ignoreFile?: Uint8Array | string;
  /** Shown with errors and lines of progress. `Dockerfile` when left out. */
  readonly filename?: string;
  /** Whether the definition holds the file, so that a daemon can show its lines; true when left out. */
  readonly sourceMap?: boolean;
  /** Rules to check, as a `check` directive has them (`skip=all`), in place of the file's own directive. */
  readonly check?: string;
  /** Told about each broken rule at once. */
  readonly onWarning?: (warning: LintWarning) => void;
  /**
   * LLB capabilities that the graph may use. Left out, all that are known: a daemon that lacks one says so when it
   * gets the definition.
   */
  readonly capabilities?: Iterable<string>;
  /** Name under which the client serves the build context; `context` when left out. */
  readonly contextName?: string;
  /** Session of the client that serves it; left out, that of the client that sends the definition. */
  readonly sessionId?: string;
  /** Tells the context of this build from that of another; random when left out. The same id, the same bytes. */
  readonly uniqueId?: string;
  /** Stops the look-ups of images. */
  readonly signal?: AbortSignal;
}

/** A broken rule of https://docs.docker.com/reference/build-checks/. */
export interface LintWarning {
  /** `StageNameCasing` */
  readonly rule: string;
  /** What the rule is about. */
  readonly description: string;
  readonly url: string;
  /** What is wrong here. */
  readonly message: string;
  readonly location: Location;
}

/** The part of the options that checks depend on. */
export interface LintOptions
  extends Pick<
    ConvertOptions,
    | 'resolveImage'
    | 'buildArgs'
    | 'target'
    | 'platform'
    | 'buildPlatform'
    | 'ignoreFile'
    | 'check'
    | 'onWarning'
    | 'signal'
  > {}

/** What the checks found. */
export interface LintResult {
  readonly warnings: readonly LintWarning[];
  /** Why the file can not be built; undefined when it can. */
  readonly error: { readonly message: string; readonly locations: readonly Location[] } | undefined;
}

/** What a client can give to the build of a target. */
export interface Outline {
  /** Name of the stage, '' without one. */
  readonly name: string;
  readonly description: string;
  readonly args: readonly OutlineArg[];
  readonly secrets: readonly OutlineMount[];
  readonly ssh: readonly OutlineMount[];
}

/** A build argument. */
export interface OutlineArg {
  readonly name: string;
  /** From the comment above it. */
  readonly description: string;
  /** With the given arguments; '' without one. */
  readonly value: string;
  readonly location: Location;
}

/** A secret or an agent that a `--mount` asks for. */
export interface OutlineMount {
  readonly name: string;
  readonly required: boolean;
  readonly location: Location;
}

/** A Dockerfile as a daemon builds it. */
export interface Conversion {
  /**
   * The build graph: bytes of a `pb.Definition`, as `buildctl build` and `buildctl debug dump-llb` read them. Empty
   * for an empty tree.
   */
  readonly definition: Uint8Array;
  /** The image config, JSON, without layers: `rootfs` is that of the base. */
  readonly imageConfig: Uint8Array;
  /** Config of the image that the target stands on, if it stands on one. */
  readonly baseImageConfig: Uint8Array | undefined;
  /** `os/architecture[/variant]` of the result. */
  readonly platform: string;
  /** SOURCE_DATE_EPOCH in seconds, if the build has one. */
  readonly epoch: bigint | undefined;
  readonly warnings: readonly LintWarning[];
  readonly outline: Outline;
}
