import { openSync } from 'node:fs';
import { ReadStream, WriteStream } from 'node:tty';
import { setTimeout as sleep } from 'node:timers/promises';
import { invalidArgument } from '../base/errors.ts';
import type { FlagValues } from '../base/flags.ts';
import type { ProcessIo, TerminalSize } from '../gateway/process-types.ts';
import type { SolveRequest } from '../client/solve-types.ts';
import type { SolveStatus } from '../client/types.ts';

/** How long the progress may take to say what the error has said. */
const PROGRESS_LIMIT_MS = 1000;
const PROGRESS_STEP_MS = 20;
const DEFAULT_SIZE: TerminalSize = { rows: 24, columns: 80 };

/** Where the shell is. */
interface Console {
  readonly input: ReadStream | NodeJS.ReadStream;
  readonly output: WriteStream | NodeJS.WriteStream;
  readonly errors: NodeJS.WritableStream;
}

/**
 * Opens a shell in the step that fails (`--debug-shell`).
 * @param pauseProgress nothing is painted after it
 */
export function debugShell(
  flags: FlagValues,
  pauseProgress: () => void,
): { readonly request: Pick<SolveRequest, 'onFailedStep'>; readonly follow: (status: SolveStatus) => void } {
  const failed = new Set<string>();
  const own = flags.string('debug-shell-program');
  const fromStdin = flags.string('frontend') === '' && flags.args.length === 0;
  return {
    follow: ({ vertexes }) => {
      for (const { digest, error } of vertexes) if (error) failed.add(digest);
    },
    request: {
      onFailedStep: async (shell) => {
        const { digest, error } = shell.step;
        for (let ms = 0; ms < PROGRESS_LIMIT_MS && !failed.has(digest); ms += PROGRESS_STEP_MS)
          await sleep(PROGRESS_STEP_MS);
        pauseProgress();
        const console = openConsole(fromStdin);
        const program = own === '' ? shell.program : own;
        console.errors.write(
          `${error.message}\n${program} runs in what the step left; the build ends with it, and what is changed here is dropped.\n`,
        );
        await using io = connected(console);
        await shell.run(io, [program]);
      },
    },
  };
}

function openConsole(definitionFromStdin: boolean): Console {
  if (!definitionFromStdin) return { input: process.stdin, output: process.stdout, errors: process.stderr };
  try {
    const input = new ReadStream(openSync('/dev/tty', 'r+'));
    const output = new WriteStream(openSync('/dev/tty', 'r+'));
    return { input, output, errors: output };
  } catch (error) {
    throw invalidArgument(
      'the definition comes from the standard input, and there is no terminal for a shell',
      error,
    );
  }
}

/** The console as a terminal of the process where it is one, else as pipes. */
function connected({ input, output, errors }: Console): ProcessIo & AsyncDisposable {
  const pipes = {
    stdin: bytesOf(input),
    stdout: (data: Uint8Array) => void output.write(data),
    stderr: (data: Uint8Array) => void errors.write(data),
  };
  if (!input.isTTY || !output.isTTY)
    return { ...pipes, [Symbol.asyncDispose]: async () => void input.destroy() };
  input.setRawMode(true);
  const sizes = new Sizes(output);
  return {
    ...pipes,
    sizes,
    [Symbol.asyncDispose]: async () => {
      sizes.end();
      input.setRawMode(false);
      input.destroy();
    },
  };
}

async function* bytesOf(input: NodeJS.ReadableStream): AsyncGenerator<Uint8Array> {
  for await (const data of input) yield typeof data === 'string' ? Buffer.from(data) : data;
}

/** The size of a terminal, now and whenever it changes. */
class Sizes implements AsyncIterable<TerminalSize> {
  readonly #output: Pick<WriteStream, 'columns' | 'rows' | 'on' | 'off'>;
  #changed = Promise.withResolvers<boolean>();
  readonly #onResize = (): void => this.#tell(true);

  constructor(output: Pick<WriteStream, 'columns' | 'rows' | 'on' | 'off'>) {
    this.#output = output;
    output.on('resize', this.#onResize);
  }

  end(): void {
    this.#output.off('resize', this.#onResize);
    this.#tell(false);
  }

  #tell(more: boolean): void {
    this.#changed.resolve(more);
  }

  async *[Symbol.asyncIterator](): AsyncIterator<TerminalSize> {
    for (let more = true; more; more = await this.#changed.promise) {
      this.#changed = Promise.withResolvers();
      const { rows, columns } = this.#output;
      yield { rows: rows || DEFAULT_SIZE.rows, columns: columns || DEFAULT_SIZE.columns };
    }
  }
}
