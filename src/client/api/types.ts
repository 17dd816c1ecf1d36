import type { BuildError } from '../../base/errors.ts';
import type { ProcessIo } from '../../gateway/process-types.ts';
import type { CacheOption, Definition, Frontend } from '../../gateway/types.ts';
import type { MemoryFile } from '../../session/fsutil/memory-file.ts';
import type { HistoryEvent, HistoryRequest, HistoryUpdate } from '../history-types.ts';
import type { SourcePolicy } from '../source-policy-types.ts';
import type { SourceDecision, SourceQuestion } from '../source-question-types.ts';
import type {
  BuildExplanation,
  StepExplanation,
  BuildkitVersion,
  ByteStream,
  CallOptions,
  NodeWritable,
  PruneRequest,
  SolveStatus,
  TlsFiles,
  UsageInfo,
  WorkerInfo,
} from '../types.ts';

/** Where the daemon is, and what to do when there is none. */
export interface ConnectOptions extends CallOptions {
  /**
   * `unix://`, `tcp://`, `docker-container://`, `podman-container://`, `nerdctl-container://`, `kube-pod://` or
   * `ssh://`. Default: the environment's `BUILDKIT_HOST`, else the daemon at /run/buildkit/buildkitd.sock, else a
   * private daemon.
   */
  readonly address?: string;
  /** For `tcp://`; without it the connection is not encrypted. */
  readonly tls?: TlsFiles;
  /** Limit of making the connection; default 5 s, 0 = none. */
  readonly timeoutMs?: number;
  /** Makes the connection in place of the scheme's own way. */
  readonly dial?: (address: string, signal: AbortSignal) => Promise<ByteStream>;
  /**
   * How the daemon runs that is started when no address is given and none answers: it is this package's own, needs
   * Linux and root, and ends with the client. false: it is an error that there is none.
   */
  readonly privateDaemon?: PrivateDaemon | false;
  /** Told of what takes time before there is a connection. */
  readonly onNotice?: (text: string) => void;
}

/** A daemon of the client's own. */
export interface PrivateDaemon {
  /** State directory, with the cache; default the environment's BUILDKIT_ROOT, else /var/lib/buildkit. */
  readonly root?: string;
  /** What builds may ask for (see `entitlements` of a build). */
  readonly allow?: readonly Entitlement[];
  /** More arguments of buildkitd. */
  readonly args?: readonly string[];
  /** The program with its first arguments; default the buildkitd of this package. */
  readonly command?: readonly [file: string, ...args: string[]];
}

/** What steps may do beyond the sandbox. `device=NAME` names one device. */
export type Entitlement = 'network.host' | 'security.insecure' | 'device' | (string & {});

/** A folder of this machine, all of it or parts, or files that exist in memory only, by their path. */
export type LocalFiles = string | LocalFolder | { readonly files: Readonly<Record<string, MemoryFile>> };

/** Parts of a folder: for the build, the rest is not there. Patterns are those of ignore files. */
export interface LocalFolder {
  readonly dir: string;
  /** Everything when left out. */
  readonly includePatterns?: readonly string[];
  readonly excludePatterns?: readonly string[];
  /** Paths that are included, with what they reach by links. */
  readonly followPaths?: readonly string[];
  /** Asked of each entry before it is sent: false leaves it out, a directory with all that is in it. */
  readonly map?: (entry: LocalEntry) => boolean | LocalChange;
}

/** A file of a folder. Owners are not sent: in the build all files are root's. */
export interface LocalEntry {
  /** Relative to the folder. */
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  /** Permission bits with set-id and sticky bits, as chmod takes them. */
  readonly mode: number;
  /** Bytes. */
  readonly size: number;
  /** Unix nanoseconds. */
  readonly modTime: bigint;
}

/** What a file is to be like in the build. */
export interface LocalChange {
  /** Permission bits, as chmod takes them. */
  readonly mode?: number;
  /** Unix nanoseconds. */
  readonly modTime?: bigint;
}

/**
 * A secret: its value, where it is to be found, or a function that is called each time the daemon asks. Texts are
 * UTF-8; at most 500 KiB.
 */
export type Secret =
  | string
  | Uint8Array
  | { readonly file: string }
  | { readonly env: string }
  | (() => Promise<string | Uint8Array> | string | Uint8Array);

/**
 * What steps reach by `--mount=type=ssh`: the user's own agent (`true`, SSH_AUTH_SOCK) or the one at a socket, private
 * keys (paths, or the key itself as bytes), or any unix socket, byte for byte.
 */
export type SshForward =
  | true
  | { readonly agent: string }
  | { readonly keys: readonly (string | Uint8Array)[] }
  | { readonly socket: string };

/** Credentials of one registry. */
export type RegistryCredentials =
  | { readonly username: string; readonly password: string }
  /** What `docker login` gets from registries with an OAuth endpoint. */
  | { readonly identityToken: string }
  /** Sent as it is. */
  | { readonly registryToken: string };

/**
 * Where credentials come from: by host, from a function, or from the folder of a docker config.json. undefined from a
 * function: the registry is asked without any.
 */
export type RegistryAuth =
  | Readonly<Record<string, RegistryCredentials>>
  | ((host: string) => Promise<RegistryCredentials | undefined> | RegistryCredentials | undefined)
  | { readonly dockerConfig: string };

/** Receives one file. */
export interface FileSink {
  write(chunk: Uint8Array): Promise<void>;
  /** Everything has arrived. */
  close(): Promise<void>;
  /** The transfer failed; what was written is worthless. */
  abort(reason: unknown): Promise<void>;
}

/** Where a file goes: a path, a stream of Node or of the web, or something of your own, opened when it comes. */
export type FileTarget =
  | string
  | NodeWritable
  | WritableStream<Uint8Array>
  | ((metadata: Readonly<Record<string, string>>) => Promise<FileSink>);

/** Options of an exporter beside those with a name of their own: `compression`, `rewrite-timestamp`, … */
export type ExportAttrs = Readonly<Record<string, string | number | boolean>>;

/** An image in the daemon's store, or pushed to a registry. */
export interface ImageExport {
  readonly type: 'image';
  readonly name?: string | readonly string[];
  readonly push?: boolean;
  readonly attrs?: ExportAttrs;
}

/** An image as an archive, or as the blobs of a layout folder. */
export interface ArchiveExport {
  readonly type: 'oci' | 'docker';
  readonly name?: string | readonly string[];
  /** Of the archive. */
  readonly dest?: FileTarget;
  /** Of the layout, in place of `dest`. */
  readonly dir?: string;
  readonly attrs?: ExportAttrs;
}

/** The files of the result as an archive. */
export interface TarExport {
  readonly type: 'tar';
  readonly dest: FileTarget;
  readonly attrs?: ExportAttrs;
}

/** The files of the result, in a folder. */
export interface LocalExport {
  readonly type: 'local';
  readonly dir: string;
  /** `delete` removes what the result has not. */
  readonly mode?: 'copy' | 'delete';
  readonly attrs?: ExportAttrs;
}

/** Where a result of a build goes. */
export type Export = ImageExport | ArchiveExport | TarExport | LocalExport;

/** A stream that a build can read at `url`, once: as a context, or with an http source. */
export interface Upload {
  readonly url: string;
  readonly stream: AsyncIterable<Uint8Array>;
}

/** A step that has failed, and can be looked into until the build goes on. */
export interface FailedStep {
  readonly error: BuildError;
  /** The shell that it was run by, or /bin/sh. */
  readonly program: string;
  /**
   * Runs a program where the step failed: in its trees as it left them, with its mounts, environment, user and
   * directory. What it changes is dropped.
   * @param args default `[program]`
   * @returns its exit code
   * @throws BuildError when it cannot be run, as where the trees hold no such program
   */
  run(io: ProcessIo, args?: readonly string[]): Promise<number>;
}

/** What is known of a result before it is exported. */
export interface ExportedResult {
  /** What the frontend says of it, with what the daemon adds. */
  readonly metadata: Readonly<Record<string, Uint8Array>>;
  /** Names of its trees at the daemon. */
  readonly refs: readonly string[];
}

/** Options of a build. Aborting `signal` cancels it. */
export interface BuildOptions extends CallOptions {
  /** Options of the frontend: `target`, `build-arg:NAME`, `filename`, `platform`, … */
  readonly frontendOptions?: Readonly<Record<string, string>>;
  /** Definitions that the frontend takes in place of its sources, by name. */
  readonly frontendInputs?: Readonly<Record<string, Definition>>;
  /** What the build may read, by the names its sources have; the Dockerfile frontend asks for `context` and `dockerfile`. */
  readonly locals?: Readonly<Record<string, LocalFiles>>;
  /** OCI layout folders that the build may take images from, by name. */
  readonly ociLayouts?: Readonly<Record<string, string>>;
  /** By id. */
  readonly secrets?: Readonly<Record<string, Secret>>;
  /** By id; `default` is what steps mean that name none. */
  readonly ssh?: Readonly<Record<string, SshForward>>;
  /** Default: what `docker login` keeps. */
  readonly registryAuth?: RegistryAuth;
  /** Made with `upload`. */
  readonly uploads?: readonly Upload[];
  readonly exports?: readonly Export[];
  readonly cacheExports?: readonly CacheOption[];
  readonly cacheImports?: readonly CacheOption[];
  /** What steps may do beyond the sandbox; the daemon must allow it. */
  readonly entitlements?: readonly Entitlement[];
  readonly sourcePolicy?: SourcePolicy;
  /** Asked about each source before the build uses it; what it throws refuses the source. */
  readonly onSource?: (question: SourceQuestion) => SourceDecision | Promise<SourceDecision>;
  /** Chooses more exports when the result is known. */
  readonly chooseExports?: (result: ExportedResult) => readonly Export[] | Promise<readonly Export[]>;
  /** Told what all exporters answered; what it throws fails the build. */
  readonly onExported?: (response: Readonly<Record<string, string>>) => void | Promise<void>;
  /**
   * Makes images with the digests that BuildKit gave them in an earlier version: 10 (0.13, 0.14), 20 (0.15 to 0.31) or
   * 30; default the daemon's newest.
   */
  readonly compatibilityVersion?: number;
  /** Name of the build at the daemon; default a random one. */
  readonly ref?: string;
  /** Key under which what was read of `locals` is kept for builds of other clients. */
  readonly sharedKey?: string;
  /** Find out why steps ran that are not in the cache (daemons of this project). */
  readonly explain?: boolean;
  /** Told why a step runs as soon as it does (daemons of this project); `explain` gives all at the end. */
  readonly onStepExplained?: (step: StepExplanation) => void;
  /** Called when a step has failed; the build ends when it is done. */
  readonly onFailedStep?: (step: FailedStep) => Promise<void>;
  /** Told of what was left out: a cache that is not there, … */
  readonly onNotice?: (text: string) => void;
}

/** What to build: a definition (LLB), or a frontend that makes one. */
export interface SolveOptions extends BuildOptions {
  /** A graph, as `buildkit-ts/llb` or `buildkit-ts/dockerfile` makes it; in place of `frontend`. */
  readonly definition?: Definition;
  /** `dockerfile.v0`; `gateway.v0` runs the image of the option `source`. */
  readonly frontend?: string;
}

/** What came of a build. */
export interface SolveResult {
  readonly ref: string;
  /** Of the image that was exported; undefined without one. */
  readonly digest: string | undefined;
  /** What exporters say: `containerimage.digest`, `image.name`, … */
  readonly exporterResponse: Readonly<Record<string, string>>;
  /** What the frontend says of its result. */
  readonly metadata: Readonly<Record<string, Uint8Array>>;
  /** What `explain` asked for; undefined when the daemon cannot tell. */
  readonly explanation: BuildExplanation | undefined;
}

/**
 * A build that runs. Waiting for it (`await build`) gives the result, or throws BuildError; whoever reads the progress
 * only does not learn of the error. An async function that returns a build gives its result. Disposing it cancels the
 * build if it still runs.
 */
export interface Build extends PromiseLike<SolveResult>, AsyncDisposable {
  readonly ref: string;
  /**
   * What happens, as it happens; ends with the build, without an error. Can be read once. Of what nobody reads, the
   * last messages are kept as they came, all before them as the latest state of each step, without logs.
   */
  readonly progress: AsyncIterable<SolveStatus>;
  /** Ends the build at the daemon; it then fails with `canceled`. */
  cancel(reason?: unknown): void;
}

/** Why records of the cache cannot be reclaimed, and what the disk holds (daemons of this project). */
export interface DiskUsageDetails {
  readonly records: readonly UsageInfo[];
  /** Reasons by the id of the record; empty where the daemon does not say. */
  readonly holders: ReadonlyMap<string, readonly string[]>;
  /** Bytes below the state directory, and what of it belongs to records. */
  readonly disk: { readonly total: number; readonly records: number } | undefined;
}

/** Options of the calls that list things. Filters are containerd's: `type==regular`, `id~=abc`, … */
export interface ListOptions extends CallOptions {
  readonly filters?: readonly string[];
}

/** A daemon as its users see it. Every call throws BuildError: what failed, colon, the daemon's own words. */
export interface Client extends AsyncDisposable {
  readonly address: string;
  /** Starts a build of a definition or with a frontend in the daemon. */
  solve(options: SolveOptions): Build;
  /** Starts a build with a frontend that runs here. */
  build(frontend: Frontend, options?: BuildOptions): Build;
  /** Records of the cache, smallest first. */
  diskUsage(options?: ListOptions): Promise<UsageInfo[]>;
  diskUsageDetails(options?: ListOptions): Promise<DiskUsageDetails>;
  /** Removes records of the cache, and gives each as it goes. Nothing happens before it is iterated. */
  prune(request?: PruneRequest, options?: CallOptions): AsyncIterable<UsageInfo>;
  workers(options?: ListOptions): Promise<WorkerInfo[]>;
  info(options?: CallOptions): Promise<{ readonly buildkitVersion: BuildkitVersion }>;
  /** Records of builds that are kept, and with `follow` what becomes of them. */
  history(request?: HistoryRequest, options?: CallOptions): AsyncIterable<HistoryEvent>;
  updateHistory(ref: string, update: HistoryUpdate, options?: CallOptions): Promise<void>;
  /** Progress of any build that runs, or whose record is kept, from its start. */
  progress(ref: string, options?: CallOptions): AsyncIterable<SolveStatus>;
  /** Why the steps of a build ran (daemons of this project). Waits for its end. */
  explain(ref: string, options?: CallOptions): Promise<BuildExplanation>;
  /** A blob of the daemon's store: a log, a trace, an attestation of a record. */
  readBlob(digest: string, options?: CallOptions): AsyncIterable<Uint8Array>;
  /** Ends the connection and what uses it, and the private daemon if there is one. */
  close(): Promise<void>;
}
