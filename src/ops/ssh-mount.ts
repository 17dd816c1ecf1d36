import { BuildError, Code, hasCode, invalidArgument } from '../base/errors.ts';
import type { Mount as LlbMount } from '../llb/ops.ts';
import type { Mountable } from '../executor/types.ts';

/** Owner and mode of the agent socket inside the step. */
export interface SshSocketOptions {
  readonly id: string;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** A client's ssh agent, reached through its session. */
export interface ForwardSsh {
  /** Fails when no session offers `id`; `unimplemented` when the client forwards no agent at all. */
  check(id: string, signal: AbortSignal): Promise<void>;
  /** A unix socket whose connections are carried to the agent until `close`. */
  listen(options: SshSocketOptions, signal: AbortSignal): Promise<{ path: string; close(): Promise<void> }>;
}

/** The agent socket as a mount (FEATURES G20), or undefined when it is optional and not forwarded. */
export async function sshMount(
  llb: LlbMount,
  ssh: ForwardSsh,
  signal: AbortSignal,
): Promise<Mountable | undefined> {
  const opt = llb.SSHOpt;
  if (!opt) throw invalidArgument('invalid ssh mount options');
  try {
    await ssh.check(opt.ID, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (opt.optional) return undefined;
    if (!hasCode(error, Code.unimplemented)) throw error;
    throw new BuildError(`no SSH key ${JSON.stringify(opt.ID)} forwarded from the client`, {
      cause: error,
      hint: `pass it with --ssh ${opt.ID === '' ? 'default' : opt.ID}`,
    });
  }
  return {
    mount: async () => {
      const socket = await ssh.listen({ id: opt.ID, uid: opt.uid, gid: opt.gid, mode: opt.mode }, signal);
      return {
        mounts: [{ type: 'bind', source: socket.path, options: ['rbind'] }],
        release: () => socket.close(),
      };
    },
  };
}
