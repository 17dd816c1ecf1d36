import { BuildError } from '../base/errors.ts';
import { CacheSharingOpt, ExecOp, MountType, NetMode, SecurityMode } from '../llb/ops.ts';

type Json = Readonly<Record<string, unknown>>;

/** A step that failed, and how its trees are called at the daemon, for as long as the build is open. */
export interface FailedStep {
  /** The vertex; '' when the daemon does not say. */
  readonly digest: string;
  readonly error: BuildError;
  /** Its trees before it ran: of an exec one for each mount; '' for none. */
  readonly inputIds: readonly string[];
  /** Its trees as it left them: one for each mount of an exec, or each action of a file op. */
  readonly mountIds: readonly string[];
  /** The step, when it runs a program. */
  readonly exec: ExecOp | undefined;
  /** The operating system it runs on; '' for the daemon's own. */
  readonly os: string;
  /** The file action that failed. */
  readonly action: number | undefined;
}

/** What an error tells of the step that failed (FEATURES E23); undefined when it was none, or an old daemon's. */
export function failedStepOf(caught: unknown): FailedStep | undefined {
  const error = BuildError.from(caught);
  const detail = (type: string): Json | undefined => {
    const found = error.details.find((one) => 'type' in one && one.type === type);
    return found && 'type' in found ? objectOf(found.value) : undefined;
  };
  const solve = detail('errdefs.Solve');
  if (!solve) return undefined;
  const op = objectOf(solve.op);
  const exec =
    op?.exec === undefined ? undefined : ExecOp.fromPartial(withNumbers(op.exec) as Partial<ExecOp>);
  const file = objectOf(solve.file);
  return {
    digest: String(detail('errdefs.Vertex')?.digest ?? ''),
    error,
    inputIds: textsOf(solve.inputIDs),
    mountIds: textsOf(solve.mountIDs),
    exec,
    os: String(objectOf(op?.platform)?.OS ?? ''),
    action: file && Number(file.index ?? 0),
  };
}

/** Enums by the names that the JSON mapping of Protocol Buffers gives them. */
const ENUMS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  network: NetMode,
  security: SecurityMode,
  mountType: MountType,
  sharing: CacheSharingOpt,
};
/** Bytes and enums that nobody here reads. */
const LEFT_OUT: ReadonlySet<string> = new Set(['contentCache']);

function withNumbers(value: unknown, name = ''): unknown {
  if (typeof value === 'string') return ENUMS[name]?.[value] ?? value;
  if (Array.isArray(value)) return value.map((item) => withNumbers(item));
  const fields = objectOf(value);
  if (!fields) return value;
  const kept = Object.entries(fields).filter(([key]) => !LEFT_OUT.has(key));
  return Object.fromEntries(kept.map(([key, item]) => [key, withNumbers(item, key)]));
}

function objectOf(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}
