import type { Container, ContainerOptions } from './container-types.ts';
import type { Platform } from '../oci/platform-type.ts';
import type { SourceRange } from '../solver/status-types.ts';
import type { WorkerInfo } from './worker-types.ts';

/** A build graph: the definition that `buildkit-ts/llb` makes, or the bytes of one (LLB), as `buildctl build` reads them. */
export type Definition = Uint8Array | { toBytes(): Uint8Array };

/** Aborting `signal` cancels the call at the daemon; it then throws BuildError `canceled`. */
export interface GatewayCallOptions {
  readonly signal?: AbortSignal;
}

/** A cache to import: `registry` with the attribute `ref`, `local` with `src`, `inline`, … */
export interface CacheOption {
  readonly type: string;
  readonly attrs?: Readonly<Record<string, string>>;
}

/** What to solve: a definition, or another frontend with options; neither gives the empty tree. */
export interface GatewaySolveRequest extends GatewayCallOptions {
  readonly definition?: Definition;
  /** `dockerfile.v0`, `gateway.v0`, … */
  readonly frontend?: string;
  readonly frontendOptions?: Readonly<Record<string, string>>;
  /** Definitions that the frontend takes in place of its sources, by name. */
  readonly frontendInputs?: Readonly<Record<string, Definition>>;
  /** Caches that the steps of `definition` look into. */
  readonly cacheImports?: readonly CacheOption[];
  /** Run the steps before answering; else they run when the result is first used. */
  readonly evaluate?: boolean;
}

/** What a frontend gives back: one tree, or one for each platform, and what is said of it. */
export interface FrontendResult {
  /** undefined is the empty tree. Not looked at when there are `refs`. */
  readonly ref?: Reference | undefined;
  /** Trees by the id of their platform, as `refs.platforms` in `metadata` has it. */
  readonly refs?: Readonly<Record<string, Reference | undefined>>;
  /** `containerimage.config`, …; texts are sent as UTF-8. */
  readonly metadata?: Readonly<Record<string, Uint8Array | string>>;
  /** By the id of the platform; with `ref`, by ''. */
  readonly attestations?: Readonly<Record<string, readonly Attestation[]>>;
}

/** A result of the daemon: everything is there. */
export interface SolvedResult extends FrontendResult {
  readonly metadata: Readonly<Record<string, Uint8Array>>;
}

/** A statement on a tree, read from a file of `ref`, or all statements of a folder in it. */
export interface Attestation {
  readonly kind: 'in-toto' | 'bundle';
  readonly metadata?: Readonly<Record<string, Uint8Array>>;
  readonly ref?: Reference | undefined;
  readonly path: string;
  /** Type of the predicate that the file is. */
  readonly predicateType?: string;
  readonly subjects?: readonly AttestationSubject[];
}

/** What a statement is about: the image it is of (`self`), or something with a name and digests. */
export interface AttestationSubject {
  readonly kind: 'self' | 'raw';
  readonly name: string;
  readonly digests: readonly string[];
}

/** A tree in the daemon. Asking for its content runs the steps that make it. */
export interface Reference {
  readonly id: string;
  /** The graph it comes from, to build on (`fromDefinition` of buildkit-ts/llb); undefined from old daemons. */
  readonly definition: Uint8Array | undefined;
  /** Runs the steps. */
  evaluate(options?: GatewayCallOptions): Promise<void>;
  /** The bytes of a file, or of `length` of them from `offset`. @throws BuildError */
  readFile(path: string, options?: GatewayCallOptions & FileRange): Promise<Uint8Array>;
  /** Entries of a directory, by name; with `include` those that the pattern matches. */
  readDir(path: string, options?: GatewayCallOptions & { readonly include?: string }): Promise<FileInfo[]>;
  /** Symlinks are followed. */
  stat(path: string, options?: GatewayCallOptions): Promise<FileInfo>;
}

/** Bytes; without `length` all that follow. */
export interface FileRange {
  readonly offset?: number;
  readonly length?: number;
}

/** A file of a tree. */
export interface FileInfo {
  /** Of an entry of a directory: its name. */
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  /** Permission bits with set-id and sticky bits, as chmod takes them. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes. */
  readonly size: number;
  /** Unix nanoseconds. */
  readonly modTime: bigint;
  /** Target of a symlink. */
  readonly linkname: string;
}

/** How to look an image up. */
export interface ResolveImageOptions extends GatewayCallOptions {
  /** `os/architecture[/variant]`, or its parts. Default: that of the daemon's worker. */
  readonly platform?: Platform | string;
  /** `pull` asks the registry, `local` prefers what is there; default what the daemon does. */
  readonly resolveMode?: 'default' | 'pull' | 'local';
  /** Name of the step in the progress. */
  readonly logName?: string;
}

/** How to look a source up. */
export interface ResolveSourceOptions extends ResolveImageOptions {
  /** Of a repository: give the commit, and the tag if one was named, as git has them. */
  readonly gitObjects?: boolean;
}

/** An image that was looked up. */
export interface ResolvedImage {
  /** The reference that it stands for; a source policy may have changed it. */
  readonly reference: string;
  readonly digest: string;
  /** JSON, as the image has it. */
  readonly config: Uint8Array;
}

/** A source as LLB names it: `docker-image://…`, `git://…`, `https://…`. */
export interface SourceIdentifier {
  readonly identifier: string;
  readonly attrs?: Readonly<Record<string, string>>;
}

/** What is known of a source without building from it. */
export interface ResolvedSource {
  readonly source: Required<SourceIdentifier>;
  readonly image?: { readonly digest: string; readonly config: Uint8Array };
  readonly git?: {
    readonly ref: string;
    readonly checksum: string;
    readonly commitChecksum: string;
    /** With `gitObjects`. */
    readonly commitObject?: Uint8Array;
    /** With `gitObjects`, of an annotated tag. */
    readonly tagObject?: Uint8Array;
  };
  readonly http?: {
    readonly digest: string;
    readonly filename: string;
    readonly lastModified: Date | undefined;
  };
}

/** A warning beside its text and step. */
export interface WarnOptions extends GatewayCallOptions {
  /** Default 1. */
  readonly level?: number;
  readonly detail?: readonly string[];
  /** Where more is said. */
  readonly url?: string;
  /** The file that it is about, and the lines. */
  readonly source?: { readonly filename: string; readonly text: string; readonly language?: string };
  readonly ranges?: readonly SourceRange[];
}

/**
 * The face of a running build that frontends see: solve graphs, look at the results, look sources up. Every call
 * throws BuildError.
 */
export interface GatewayClient {
  /** Options of the frontend: `target`, `build-arg:NAME`, … */
  readonly options: Readonly<Record<string, string>>;
  /** The session of the client that builds, for local sources. */
  readonly sessionId: string;
  /** The program that hosts the build, '' when it does not say. */
  readonly product: string;
  readonly workers: readonly WorkerInfo[];
  /** What the daemon's gateway can do (`readfile`, `gateway.exec`, …). */
  readonly capabilities: ReadonlySet<string>;
  /** What LLB it understands (`source.image`, `exec.mount.cache`, …). */
  readonly llbCapabilities: ReadonlySet<string>;
  /** Aborts when the build ends before the frontend does. */
  readonly signal: AbortSignal;
  /** Checks the capabilities that the definition needs, and has it solved. */
  solve(request: GatewaySolveRequest): Promise<SolvedResult>;
  resolveImage(reference: string, options?: ResolveImageOptions): Promise<ResolvedImage>;
  resolveSource(source: SourceIdentifier, options?: ResolveSourceOptions): Promise<ResolvedSource>;
  /** Definitions that the caller gave in place of sources, by name. */
  inputs(options?: GatewayCallOptions): Promise<Readonly<Record<string, Uint8Array>>>;
  /** Opens a container on trees of the build, to run processes in. */
  newContainer(options: ContainerOptions): Promise<Container>;
  /** Shows a warning at the step with the digest `vertex`. */
  warn(vertex: string, message: string, options?: WarnOptions): Promise<void>;
}

/** Turns options and inputs into trees. What it throws is the error of the build. */
export type Frontend = (gateway: GatewayClient) => Promise<FrontendResult | undefined>;
