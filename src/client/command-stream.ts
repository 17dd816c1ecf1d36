import { type ChildProcess, spawn } from 'node:child_process';
import { Duplex, Readable } from 'node:stream';
import { BuildError, Code } from '../base/errors.ts';

/** Error output of a helper that is kept for the error message, characters. */
const MAX_STDERR = 4096;
/** A helper that has not ended this long after its input has is killed. */
const KILL_AFTER_MS = 3000;

/** Starts a command and makes one stream of its standard input and output. Destroying it ends the command. */
export function dialCommand(command: readonly string[]): Duplex {
  const [file, ...args] = command;
  const child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const { stdin, stdout, stderr } = child;
  const said = collect(stderr);
  const failed = Promise.withResolvers<BuildError>();
  child.once('error', (error) => failed.resolve(failure(command, error.message)));
  child.once('close', (code, signal) => {
    if (code !== 0) failed.resolve(failure(command, said() || `exit ${code ?? signal}`));
  });
  const readable = Readable.from(output(stdout, failed.promise, child), { objectMode: false });
  // The types know web streams only; Node's own are taken as well.
  const stream = Duplex.from({ writable: stdin, readable } as unknown as AsyncIterable<Uint8Array>);
  failed.promise.then((error) => stream.destroy(error));
  stream.once('close', () => stop(child));
  stdin.on('error', () => {}); // the command's end says why
  return stream;
}

/** What the command writes; a command that ends badly fails the stream instead of ending it. */
async function* output(
  stdout: AsyncIterable<Uint8Array>,
  failed: Promise<BuildError>,
  child: ChildProcess,
): AsyncGenerator<Uint8Array> {
  yield* stdout;
  const ended = new Promise<undefined>((resolve) => {
    if (child.exitCode !== null) resolve(undefined);
    else child.once('close', () => setImmediate(() => resolve(undefined)));
  });
  const error = await Promise.race([failed, ended]);
  if (error) throw error;
}

function collect(stream: AsyncIterable<Uint8Array>): () => string {
  let text = '';
  const read = async (): Promise<void> => {
    for await (const chunk of stream) text = (text + Buffer.from(chunk).toString()).slice(-MAX_STDERR);
  };
  read().catch(() => {}); // only for the message
  return () => text.trim();
}

function failure(command: readonly string[], reason: string): BuildError {
  return new BuildError(
    `connection error: desc = "transport: command ${command.join(' ')} failed: ${reason}"`,
    {
      code: Code.unavailable,
    },
  );
}

function stop(child: ChildProcess): void {
  child.stdin?.end();
  if (child.exitCode !== null || child.signalCode !== null) return;
  const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
  timer.unref();
  child.once('close', () => clearTimeout(timer));
  child.kill('SIGTERM');
}
