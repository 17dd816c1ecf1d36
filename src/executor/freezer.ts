import { existsSync } from 'node:fs';
import { abortable } from '../base/shared-task.ts';
import { type ChildProcess, findExecutable, spawn } from '../sys/spawn.ts';
import { freezeCgroup, freezerFile, thawCgroup } from './cgroup.ts';

interface Member {
  readonly cgroup: string;
  /** Aborted when it is being killed: it has to run for that. */
  readonly signal: AbortSignal;
  /** Lets it go on when this process is gone. Absent: it runs. */
  keeper: ChildProcess | undefined;
}

/** Stops all containers where they are, and lets them go on. */
export class Freezer {
  readonly #shell: string | undefined;
  readonly #members = new Map<string, Member>();
  #resumed: PromiseWithResolvers<void> | undefined;

  constructor(searchPath: string) {
    this.#shell = findExecutable('sh', searchPath);
  }

  /** Resolves when containers may start. */
  async open(signal: AbortSignal): Promise<void> {
    while (this.#resumed) await abortable(this.#resumed.promise, signal);
  }

  /** A container from before its start until it is gone. */
  add(id: string, cgroup: string, signal: AbortSignal): Disposable {
    this.#members.set(id, { cgroup, signal, keeper: undefined });
    return {
      [Symbol.dispose]: () => {
        this.thaw(id);
        this.#members.delete(id);
      },
    };
  }

  /** Again and again while the pause lasts, for what was starting. False when something goes on running. */
  pause(): boolean {
    this.#resumed ??= Promise.withResolvers();
    let all = true;
    for (const member of this.#members.values())
      if (!member.signal.aborted && !this.#freeze(member)) all = false;
    return all;
  }

  resume(): void {
    // Those that are being killed would write once more: their end thaws them.
    for (const [id, { signal }] of this.#members) if (!signal.aborted) this.thaw(id);
    this.#resumed?.resolve();
    this.#resumed = undefined;
  }

  thaw(id: string): void {
    const member = this.#members.get(id);
    if (!member?.keeper) return;
    thawCgroup(member.cgroup);
    // Before it could do the same to a later pause.
    member.keeper.kill('SIGKILL');
    member.keeper.stdin?.destroy();
    member.keeper = undefined;
  }

  #freeze(member: Member): boolean {
    const file = freezerFile(member.cgroup);
    if (!this.#shell) return false;
    if (!existsSync(file.path)) return true; // not begun, or over
    try {
      member.keeper ??= keep(this.#shell, file);
      return freezeCgroup(member.cgroup);
    } catch {
      return false; // no room for one more process: it runs on
    }
  }
}

/** Waits for the end of its input, which comes with the end of this process, and thaws. */
function keep(shell: string, { path, thawed }: { readonly path: string; readonly thawed: string }) {
  const keeper = spawn({
    file: shell,
    args: ['sh', '-c', 'read -r line; echo "$2" >"$1"', 'sh', path, thawed],
    env: {},
    stdin: 'pipe',
    setsid: true,
  });
  keeper.stdin?.on('error', () => {});
  return keeper;
}
