import type { KeyValue } from '../ast.ts';
import type { Location } from '../location.ts';

/** What every instruction has. `code` is its text with continuations joined. */
export interface InstructionBase {
  /** The instruction word as written. */
  readonly name: string;
  readonly code: string;
  readonly location: Location;
  readonly comments: readonly string[];
}

/** One argument of ARG: `KEY` or `KEY=value`. `description` is that of the comment above. */
export interface ArgPair {
  readonly key: string;
  readonly value?: string;
  readonly description: string;
}

/** A file written into the instruction itself. */
export interface InlineFile {
  readonly name: string;
  readonly data: string;
  readonly expand: boolean;
}

/** What ADD and COPY take, and where it goes. */
export interface SourcesAndDest {
  readonly dest: string;
  readonly sources: readonly string[];
  readonly files: readonly InlineFile[];
}

/** ADD */
export interface AddInstruction extends InstructionBase, SourcesAndDest {
  readonly kind: 'add';
  readonly chown: string;
  readonly chmod: string;
  readonly link: boolean;
  readonly exclude: readonly string[];
  readonly keepGitDir?: boolean;
  readonly checksum: string;
  readonly unpack?: boolean;
}

/** COPY */
export interface CopyInstruction extends InstructionBase, SourcesAndDest {
  readonly kind: 'copy';
  readonly from: string;
  readonly chown: string;
  readonly chmod: string;
  readonly link: boolean;
  readonly exclude: readonly string[];
  readonly parents: boolean;
}

/** Command line in shell form (one word, run by the shell) or exec form. */
export interface CommandLine {
  readonly words: readonly string[];
  readonly shellForm: boolean;
}

/** A document that a RUN reads: a script, or the input of one. */
export interface ShellHeredoc {
  readonly name: string;
  readonly data: string;
  readonly chomp: boolean;
}

/** Types of `RUN --mount`. */
export type MountType = 'bind' | 'cache' | 'tmpfs' | 'secret' | 'ssh';
/** Who may use a cache mount at the same time. */
export type Sharing = 'shared' | 'private' | 'locked';

/** A `--mount` with its variables filled in. */
export interface RunMount {
  readonly type: MountType;
  readonly from: string;
  readonly source: string;
  readonly target: string;
  readonly readonly: boolean;
  /** Bytes, tmpfs only. */
  readonly sizeLimit: bigint;
  readonly id: string;
  readonly sharing?: Sharing;
  readonly required: boolean;
  readonly env?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** A `--device`. */
export interface RunDevice {
  readonly name: string;
  readonly required: boolean;
}

/** RUN */
export interface RunInstruction extends InstructionBase {
  readonly kind: 'run';
  readonly command: CommandLine;
  readonly heredocs: readonly ShellHeredoc[];
  /** Values of `--mount` as written; they are expanded when the instruction runs. */
  readonly mounts: readonly string[];
  /** `from` of each mount, known before expansion. */
  readonly mountSources: readonly string[];
  readonly devices: readonly RunDevice[];
  readonly network: 'default' | 'none' | 'host';
  readonly security: 'sandbox' | 'insecure';
}

/** Durations in nanoseconds, 0 inherits. */
export interface Healthcheck {
  readonly test: readonly string[];
  readonly interval: bigint;
  readonly timeout: bigint;
  readonly startPeriod: bigint;
  readonly startInterval: bigint;
  readonly retries: number;
}

/** Any instruction but FROM; `kind` tells which. */
export type Instruction =
  | AddInstruction
  | CopyInstruction
  | RunInstruction
  | (InstructionBase & { readonly kind: 'arg'; readonly args: readonly ArgPair[] })
  | (InstructionBase & { readonly kind: 'cmd' | 'entrypoint'; readonly command: CommandLine })
  | (InstructionBase & { readonly kind: 'env' | 'label'; readonly pairs: readonly KeyValue[] })
  | (InstructionBase & { readonly kind: 'expose'; readonly ports: readonly string[] })
  | (InstructionBase & { readonly kind: 'healthcheck'; readonly health: Healthcheck })
  | (InstructionBase & { readonly kind: 'maintainer'; readonly maintainer: string })
  | (InstructionBase & { readonly kind: 'onbuild'; readonly expression: string })
  | (InstructionBase & { readonly kind: 'shell'; readonly shell: readonly string[] })
  | (InstructionBase & { readonly kind: 'stopsignal'; readonly signal: string })
  | (InstructionBase & { readonly kind: 'user'; readonly user: string })
  | (InstructionBase & { readonly kind: 'volume'; readonly volumes: readonly string[] })
  | (InstructionBase & { readonly kind: 'workdir'; readonly path: string });

/** The member of the union whose kind is, or may be, `K`. */
export type InstructionOf<K extends Instruction['kind']> = Instruction extends infer I
  ? I extends { readonly kind: infer Kind }
    ? K extends Kind
      ? I
      : never
    : never
  : never;

/** A FROM and what follows it. */
export interface Stage {
  /** Lower-case, '' without one. */
  readonly name: string;
  readonly baseName: string;
  /** `--platform` as written, '' without one. */
  readonly platform: string;
  /** FROM as written. */
  readonly word: string;
  readonly asWord: string;
  readonly code: string;
  readonly description: string;
  readonly location: Location;
  readonly comments: readonly string[];
  readonly instructions: readonly Instruction[];
}

/** A Dockerfile by stages. */
export interface StagedFile {
  /** ARGs in front of the first FROM. */
  readonly globalArgs: readonly InstructionOf<'arg'>[];
  readonly stages: readonly Stage[];
}
