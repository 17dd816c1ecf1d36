import type { Platform } from '../oci/platform.ts';
import type { SourceRange } from '../solver/types.ts';
import type { Definition, ExecOp, LinuxResources, OpMetadata, ProgressGroup } from './ops.ts';
import type { State } from './state.ts';

/** What may be said of any step. None of it but `platform` and `workerConstraints` is part of its digest. */
export interface Constraints {
  readonly platform?: Platform;
  readonly workerConstraints?: readonly string[];
  readonly ignoreCache?: boolean;
  /** Shown instead of the step's own name; short for description `llb.customname`. */
  readonly customName?: string;
  readonly description?: Readonly<Record<string, string>>;
  readonly exportCache?: boolean;
  readonly progressGroup?: ProgressGroup;
  readonly linuxResources?: LinuxResources;
  /** Value of `local.unique` of this local source, instead of the one given to `marshal`. */
  readonly localUniqueId?: string;
  /** Capabilities that the step needs beyond those the builder adds by itself. */
  readonly caps?: readonly string[];
  readonly locations?: readonly SourceLocation[];
}

/** A file that steps come from (FEATURES D5). Make one object per file and use it in every location. */
export interface SourceMap {
  readonly filename: string;
  readonly language: string;
  readonly data: Uint8Array;
  /** Where the file itself came from. */
  readonly definition?: State | Definition;
}

export interface SourceLocation {
  readonly map: SourceMap;
  readonly ranges: readonly SourceRange[];
}

/** Output `index` of a step. */
export interface Output {
  readonly node: Node;
  readonly index: number;
}

interface NodeBase {
  readonly constraints: Constraints;
  /** Capabilities that the step needs. */
  readonly caps: readonly string[];
}

export interface SourceNode extends NodeBase {
  readonly kind: 'source';
  readonly identifier: string;
  readonly attrs: Readonly<Record<string, string>>;
}

/** `input` null is an empty tree. Mounts are sorted by destination. */
export interface ExecMountNode {
  readonly input: Output | null;
  readonly dest: string;
  readonly selector: string;
  readonly readonly: boolean;
  /** -1 when the mount gives no output. */
  readonly output: number;
  readonly message: ExecOp['mounts'][number];
}

export interface ExecNode extends NodeBase {
  readonly kind: 'exec';
  /** Without mounts of kind bind, cache and tmpfs; secrets and sockets are there. */
  readonly exec: ExecOp;
  readonly mounts: readonly ExecMountNode[];
  /** True when PATH is not among the variables. */
  readonly lacksPath: boolean;
  /** Platform of the tree that it runs in, used when the constraints name none. */
  readonly basePlatform: Platform | undefined;
}

export interface FileNode extends NodeBase {
  readonly kind: 'file';
  readonly actions: FileActionNode;
  readonly basePlatform: Platform | undefined;
}

/** A chain of actions on `base`, each on the outcome of the one before. */
export interface FileActionNode {
  readonly base: State;
  readonly steps: readonly FileStep[];
}

export type FileStep =
  | { readonly kind: 'mkdir'; readonly path: string; readonly mode: number; readonly options: MkdirOptions }
  | {
      readonly kind: 'mkfile';
      readonly path: string;
      readonly mode: number;
      readonly data: Uint8Array;
      readonly options: OwnerOptions;
    }
  | {
      readonly kind: 'symlink';
      readonly oldPath: string;
      readonly newPath: string;
      readonly options: OwnerOptions;
    }
  | { readonly kind: 'rm'; readonly path: string; readonly options: RmOptions }
  | {
      readonly kind: 'copy';
      readonly from: State | FileActionNode;
      readonly src: string;
      readonly dest: string;
      readonly options: CopyOptions;
    };

/** A user or group: a number, or a name looked up in the tree that is written to. */
export type Owner = { readonly id: number } | { readonly name: string };

export interface OwnerOptions {
  readonly owner?: { readonly user?: Owner; readonly group?: Owner };
  /** Modification time of what is made, Unix nanoseconds. */
  readonly createdTime?: bigint;
}

export interface MkdirOptions extends OwnerOptions {
  readonly makeParents?: boolean;
}

export interface RmOptions {
  readonly allowNotFound?: boolean;
  readonly allowWildcard?: boolean;
}

export interface CopyOptions extends OwnerOptions {
  /** Permission bits, or a symbolic mode as chmod(1) takes it. Kept when absent. */
  readonly mode?: number | string;
  readonly followSymlinks?: boolean;
  readonly dirContentsOnly?: boolean;
  readonly includePatterns?: readonly string[];
  readonly excludePatterns?: readonly string[];
  readonly requiredPaths?: readonly string[];
  /** Unpacks archives, as ADD does. */
  readonly attemptUnpack?: boolean;
  readonly createDestPath?: boolean;
  readonly allowWildcard?: boolean;
  readonly allowEmptyWildcard?: boolean;
  readonly alwaysReplaceExistingDestPaths?: boolean;
}

export interface MergeNode extends NodeBase {
  readonly kind: 'merge';
  readonly inputs: readonly Output[];
}

export interface DiffNode extends NodeBase {
  readonly kind: 'diff';
  readonly lower: Output | null;
  readonly upper: Output | null;
}

/** Adds an order between steps: outputs are inputs once all inputs are there. */
export interface PassthroughNode extends NodeBase {
  readonly kind: 'passthrough';
  readonly id: string;
  readonly inputs: readonly Output[];
  readonly outputs: readonly number[];
}

/** What the definition in a file of the input gives. */
export interface BuildNode extends NodeBase {
  readonly kind: 'build';
  readonly input: Output;
  /** Path of the file; a default name when absent. */
  readonly filename?: string;
}

/** A step that came encoded; its bytes stay as they are. */
export interface EncodedNode extends NodeBase {
  readonly kind: 'encoded';
  readonly bytes: Uint8Array;
  readonly metadata: OpMetadata;
  readonly inputs: readonly Output[];
}

export type Node =
  | SourceNode
  | ExecNode
  | FileNode
  | MergeNode
  | DiffNode
  | PassthroughNode
  | BuildNode
  | EncodedNode;
