import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, Code } from '../base/errors.ts';
import { openRootfs } from '../sys/rootfs.ts';
import { exitError } from './exit.ts';
import { execInContainer, type Runtime, runtimeCommand } from './runtime.ts';
import { withPath } from './spec.ts';
import { type ExecRequest, type RunIo, UNKNOWN_EXIT_CODE } from './types.ts';
import { lookUpUser } from './user.ts';

const STATE_POLL_MS = 100;

/** A container from the moment it is asked for: where further processes find it. */
export class RunningContainer {
  readonly #runtime: Runtime;
  readonly #id: string;
  readonly #bundle: string;
  readonly #processes = new Set<Promise<unknown>>();
  #count = 0;
  #isUp = false;
  #end: BuildError | undefined;

  constructor(runtime: Runtime, id: string, bundle: string) {
    this.#runtime = runtime;
    this.#id = id;
    this.#bundle = bundle;
  }

  /** Its first process is over; the others have ended with it. */
  ended(failure?: unknown): void {
    const text = `container ${this.#id} has`;
    this.#end =
      failure === undefined
        ? new BuildError(`${text} stopped`, { code: Code.failedPrecondition })
        : BuildError.wrap(failure, `${text} exited with error`);
  }

  /** Resolves when nothing uses its directory any more. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#processes);
  }

  async exec(request: ExecRequest, io: RunIo): Promise<void> {
    const running = this.#exec(request, io);
    this.#processes.add(running);
    try {
      await running;
    } finally {
      this.#processes.delete(running);
    }
  }

  async #exec(request: ExecRequest, io: RunIo): Promise<void> {
    await this.#untilUp(io.signal);
    const path = join(this.#bundle, `exec-${this.#count++}`);
    const files = { processFile: `${path}.json`, pidFile: `${path}.pid`, logFile: `${path}.log` };
    let code: number | undefined;
    let failure: unknown;
    try {
      // Its environment may hold secrets.
      writeFileSync(files.processFile, JSON.stringify(this.#processSpec(request)), { mode: 0o600 });
      const run = { id: this.#id, ...files, tty: request.tty === true };
      code = await execInContainer(this.#runtime, run, io);
    } catch (error) {
      failure = error;
    } finally {
      for (const file of Object.values(files)) rmSync(file, { force: true });
    }
    if (code === 0) return;
    throw exitError(code ?? UNKNOWN_EXIT_CODE, { failure, oom: false, signal: io.signal });
  }

  async #untilUp(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#end) throw this.#end;
      if (this.#isUp) return;
      const { code, output } = await runtimeCommand(this.#runtime, ['state', this.#id]);
      this.#isUp = code === 0 && isRunning(output);
      if (!this.#isUp) await sleep(STATE_POLL_MS, undefined, { signal });
    }
  }

  /** That of the first process with what is asked for. */
  #processSpec({ args, env, cwd, user, tty }: ExecRequest): Record<string, unknown> {
    const config = JSON.parse(readFileSync(join(this.#bundle, 'config.json'), 'utf8')) as {
      readonly process: Record<string, unknown>;
    };
    return {
      ...config.process,
      args,
      env: withPath(env),
      cwd: cwd || '/',
      terminal: tty === true,
      ...(user ? { user: this.#user(user) } : {}),
    };
  }

  #user(name: string) {
    using root = openRootfs(join(this.#bundle, 'rootfs'));
    const { uid, gid, additionalGids } = lookUpUser(root, name);
    return { uid, gid, additionalGids };
  }
}

function isRunning(state: string): boolean {
  try {
    return (JSON.parse(state) as { readonly status?: string }).status === 'running';
  } catch {
    // No whole answer: asked again.
    return false;
  }
}
