import type { SourceMap } from '../../llb/node.ts';
import type { LinuxResources } from '../../llb/ops.ts';
import type { State, Ulimit } from '../../llb/state.ts';
import type { Platform } from '../../oci/platform.ts';
import type { LintConfig, LintWarning } from '../lint/linter.ts';
import type { Image } from './image.ts';
import type { Outline } from './outline.ts';
import type { ScanTargets } from './scan.ts';

export type ResolveMode = 'default' | 'pull' | 'local';
export type NetworkMode = 'sandbox' | 'host' | 'none';

export interface ResolvedImage {
  /** The reference, perhaps changed by a policy. */
  readonly ref: string;
  readonly digest: string;
  /** Bytes of the image config. */
  readonly config: Uint8Array;
}

export interface ResolveImageOptions {
  readonly platform: Platform;
  /** Vertex name shown while it runs. */
  readonly logName: string;
  readonly resolveMode: ResolveMode;
  readonly signal?: AbortSignal;
}

export type ImageResolver = (ref: string, options: ResolveImageOptions) => Promise<ResolvedImage>;

/** A name that stands for something the client chose, in place of an image or stage (FEATURES H15). */
export interface NamedContext {
  load(options: { signal?: AbortSignal }): Promise<{ readonly state: State; readonly image?: Image }>;
}

export interface NamedContextOptions {
  readonly platform?: Platform;
  readonly resolveMode: ResolveMode;
  /** Paths that the build turns out to need, relative and sorted; undefined is everything. Asked late. */
  readonly paths: () => readonly string[] | undefined;
}

/** Everything a conversion depends on beside the file itself. */
export interface ConvertOptions {
  readonly buildArgs: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
  /** Stage to build, '' for the last one. */
  readonly target: string;
  /** Undefined means that the client asked for none. */
  readonly targetPlatform?: Platform;
  /** Platforms of the first worker; the first one runs `RUN`. */
  readonly buildPlatforms: readonly Platform[];
  /** The result is one of several platforms, so names carry the platform. */
  readonly multiPlatform: boolean;
  readonly networkMode: NetworkMode;
  readonly hostname: string;
  readonly extraHosts: readonly { readonly host: string; readonly ip: string }[];
  /** Bytes, 0 keeps the default. */
  readonly shmSize: bigint;
  readonly ulimits: readonly Ulimit[];
  readonly cgroupParent: string;
  readonly resources?: LinuxResources;
  readonly imageResolveMode: ResolveMode;
  readonly cacheIdNamespace: string;
  readonly isNoCache: (stageName: string) => boolean;
  /** Capabilities of the daemon; undefined for a conversion that no daemon is asked for. */
  readonly caps?: ReadonlySet<string>;
  /** The build asks for the labs channel, by a syntax that names it: its instructions are understood (FEATURES H88). */
  readonly labs?: boolean;
  readonly sourceMap: SourceMap;
  readonly resolveImage: ImageResolver;
  readonly namedContext: (name: string, options: NamedContextOptions) => NamedContext | undefined;
  /** The build context, narrowed to `paths` (relative and sorted; undefined is everything). */
  readonly mainContext: (paths: readonly string[] | undefined) => Promise<State>;
  /**
   * Time of the one source that a tree is made of, in seconds since 1970; undefined when it has none.
   * Absent where no daemon can be asked.
   */
  readonly sourceTime?: (state: State, logName: string) => Promise<bigint | undefined>;
  /** Lines of the ignore file. Asked when the file has been understood, before bases are looked up. */
  readonly ignorePatterns?: () => Promise<readonly string[]>;
  /** Told about broken rules; without it none are checked. */
  readonly warn?: (warning: LintWarning) => void;
  /** In place of the file's own `check` directive. */
  readonly lint?: LintConfig;
  /** Look at stages that the target does not need too. */
  readonly allStages?: boolean;
  /** Names for groups of steps that are shown as one; random without it. */
  readonly newId?: () => string;
  readonly signal?: AbortSignal;
}

export interface ConvertResult {
  readonly state: State;
  /** For `marshal`: platform of steps that name none. */
  readonly platform: Platform;
  readonly image: Image;
  /** Config of the image that the target stands on, if it stands on one. */
  readonly baseImage?: Image;
  /** SOURCE_DATE_EPOCH in seconds. */
  readonly epoch?: bigint;
  /** What the client can give to this build. */
  readonly outline: () => Outline;
  /** What a list of the result's parts is made from. */
  readonly scan: () => ScanTargets;
}
