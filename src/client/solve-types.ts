import type { SourcePolicy } from './source-policy-types.ts';
import type { Frontend } from '../gateway/types.ts';
import type { CredentialSource } from '../session/host/docker-config.ts';
import type { FileSink } from '../session/host/filesend.ts';
import type { OfferedDirectory } from '../session/host/filesync.ts';
import type { SecretSource } from '../session/host/secrets.ts';
import type { SshSource } from '../session/host/ssh.ts';
import type { ExportedResult } from './api/types.ts';
import type { StepShell } from './step-shell.ts';
import type { Uploads } from '../session/host/upload.ts';
import type { CheckPolicyRequest, CheckPolicyResponse } from '../pb/policysession.ts';
import type { BuildExplanation, SolveStatus, StepExplanation } from './types.ts';

export type { FileSink, SecretSource, SshSource };

/** Where one result of a build goes (FEATURES L6, N2). */
export interface ExportEntry {
  /** `image`, `oci`, `docker`, `local`, `tar`. */
  readonly type: string;
  readonly attrs: Readonly<Record<string, string>>;
  /** Receives the file of `oci`, `docker` and `tar`; opened when the daemon begins to send. */
  readonly output?: (metadata: Readonly<Record<string, string>>) => Promise<FileSink | undefined>;
  /** Receives the files of `local`; the layout of `oci` and `docker` with the attribute `tar=false`. */
  readonly outputDir?: string;
}

/** A cache to import or export (FEATURES K1). */
export interface CacheEntry {
  readonly type: string;
  readonly attrs: Readonly<Record<string, string>>;
}

export interface SolveRequest {
  /** Marshaled LLB definition; exactly one of this, `frontend` and `run` is given. */
  readonly definition?: Uint8Array;
  readonly frontend?: string;
  /** A frontend of the client's own. */
  readonly run?: Frontend;
  /** Name of the program, as `run` is told. */
  readonly product?: string;
  /** Definitions in place of sources, for `frontend`. */
  readonly frontendInputs?: Readonly<Record<string, Uint8Array>>;
  readonly frontendAttrs?: Readonly<Record<string, string>>;
  /** Folders the build may read, by name. */
  readonly localDirs?: Readonly<Record<string, OfferedDirectory>>;
  /** OCI layout folders the build may take images from, by name. */
  readonly ociLayouts?: Readonly<Record<string, string>>;
  readonly exports?: readonly ExportEntry[];
  readonly cacheExports?: readonly CacheEntry[];
  readonly cacheImports?: readonly CacheEntry[];
  readonly secrets?: readonly SecretSource[];
  readonly ssh?: readonly SshSource[];
  /** Default: what `docker login` keeps. */
  readonly credentials?: CredentialSource;
  /** Streams that http sources read. */
  readonly uploads?: Uploads;
  readonly allowedEntitlements?: readonly string[];
  /** Rules on the sources of the build. */
  readonly sourcePolicy?: SourcePolicy;
  /** Asked about each source of the build; what it throws refuses the source. */
  readonly onSource?: (request: CheckPolicyRequest, signal: AbortSignal) => Promise<CheckPolicyResponse>;
  /** Chooses more exports when the result is there. */
  readonly chooseExports?: (result: ExportedResult) => Promise<readonly ExportEntry[]>;
  /** Told what all exporters answered, before the build ends. */
  readonly onExported?: (response: Readonly<Record<string, string>>) => Promise<void>;
  /** Which version's images to make; the daemon's own when absent. */
  readonly compatibilityVersion?: number;
  /** Name of the build at the daemon; random when absent. */
  readonly ref?: string;
  /** Key under which local sources are kept between builds of different clients. */
  readonly sharedKey?: string;
  readonly onStatus?: (status: SolveStatus) => void;
  /** Told why a step runs as soon as it does, of each once; not by daemons other than this project's. */
  readonly onStepExplained?: ((step: StepExplanation) => void) | undefined;
  /** Told why steps ran once the build has ended, also when it failed; not by daemons other than this project's. */
  readonly onExplain?: (explanation: BuildExplanation) => void;
  /**
   * Asked when a step has failed, before the build ends: it is held open until this settles. What it throws is told
   * as a warning.
   */
  readonly onFailedStep?: (shell: StepShell) => Promise<void>;
  /** Told of what was left out. */
  readonly onWarning?: (text: string) => void;
  /** Aborting cancels the build. */
  readonly signal?: AbortSignal;
}

export interface SolveResult {
  readonly ref: string;
  /** What exporters and frontend say of the result (FEATURES B8). */
  readonly exporterResponse: Readonly<Record<string, string>>;
  /** Metadata of the frontend's result. */
  readonly metadata: Readonly<Record<string, Uint8Array>>;
}
