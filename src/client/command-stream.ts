import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { Duplex } from 'node:stream';
import { BuildError, Code } from '../base/errors.ts';

/** Error output of a helper that is kept for the error message, characters. */
const MAX_STDERR = 4096;
/** A helper that has not ended this long after it was told to is killed. */
const KILL_AFTER_MS = 3000;

/** Starts a command and makes one stream of its standard input and output. Destroying it ends the command. */
export function dialCommand(command: readonly string[]): Duplex {
  return new CommandStream(command);
}

class CommandStream extends Duplex {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #output: AsyncIterator<Uint8Array>;
  /** Resolves when the command has ended, with the error if it ended badly. */
  readonly #ended: Promise<BuildError | undefined>;
  #said = '';

  constructor(command: readonly string[]) {
    super({ allowHalfOpen: true });
    const [file, ...args] = command;
    this.#child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve(failure(command, error.message)));
      this.#child.once('close', (code, signal) =>
        resolve(code === 0 ? undefined : failure(command, this.#said.trim() || `exit ${code ?? signal}`)),
      );
    });
    this.#child.stdin.on('error', () => {}); // the command's end says why
    this.#output = this.#read();
    this.#listen().catch(() => {}); // only for the message
  }

  async #listen(): Promise<void> {
    for await (const chunk of this.#child.stderr)
      this.#said = (this.#said + String(chunk)).slice(-MAX_STDERR);
  }

  /** What the command writes; one that ends badly fails the stream instead of ending it. */
  async *#read(): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#child.stdout;
    } catch {
      // The command's end says why.
    }
    const error = await this.#ended;
    if (error) throw error;
  }

  override _read(): void {
    this.#output.next().then(
      ({ done, value }) => this.push(done ? null : value),
      (error: Error) => this.destroy(error),
    );
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.#child.stdin.write(chunk, (error) => {
      if (error) this.#ended.then((reason) => done(reason ?? error));
      else done();
    });
  }

  override _final(done: () => void): void {
    this.#child.stdin.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const child = this.#child;
    child.stdin.destroy();
    if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
      const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
      child.once('close', () => clearTimeout(timer));
      child.kill('SIGTERM');
    }
    child.stdout.destroy();
    child.stderr.destroy();
    done(error);
  }
}

function failure(command: readonly string[], reason: string): BuildError {
  return new BuildError(
    `connection error: desc = "transport: command ${command.join(' ')} failed: ${reason}"`,
    {
      code: Code.unavailable,
    },
  );
}
