import { BuildError } from '../base/errors.ts';
import { ExecMessage, type InitMessage, type LLBBridgeDefinition } from '../pb/gateway.ts';
import { errorOf } from '../rpc/status.ts';
import type { ProcessIo, TerminalSize } from './process-types.ts';
import type { CallOptions, Client as TypedClient, MessageStream } from '../rpc/types.ts';

const PROCESS = 'process';

type Stream = MessageStream<ExecMessage, ExecMessage>;

/**
 * Runs a process in a container of a build to its end (FEATURES I16). Aborting the signal of `options` ends it.
 * @returns its exit code
 * @throws BuildError when it could not be started
 */
export async function runProcess(
  bridge: TypedClient<typeof LLBBridgeDefinition>,
  init: Partial<InitMessage>,
  io: ProcessIo,
  options: CallOptions,
): Promise<number> {
  const stream: Stream = bridge.execProcess(options);
  const Fds = io.stdin ? [0, 1, 2] : [1, 2];
  const value = { ...init, Fds, Tty: io.sizes !== undefined };
  await send(stream, { $case: 'Init', value } as ExecMessage['Input']);
  const input = new Input(stream, io.stdin !== undefined);
  let hasStarted = false;
  let outcome: { readonly code: number; readonly error: BuildError | undefined } | undefined;
  for await (const { Input: message } of stream) {
    if (message?.$case === 'Started' && !hasStarted) {
      hasStarted = true;
      io.onStarted?.();
      // They end with the stream, or with what feeds them; what fails then is the stream, which says it.
      if (io.stdin) input.feed(io.stdin).catch(() => {});
      if (io.sizes) resize(stream, io.sizes).catch(() => {});
      if (io.signals) signal(stream, io.signals).catch(() => {});
    } else if (message?.$case === 'File' && message.value.Data.length > 0) {
      (message.value.Fd === 2 ? io.stderr : io.stdout)?.(message.value.Data);
    } else if (message?.$case === 'Exit') {
      const { Code: code, Error: error } = message.value;
      outcome = { code, error: error && errorOf(error) };
      await input.end(); // BuildKit's daemon waits for that
    } else if (message?.$case === 'Done') stream.end(); // the daemon ends its side then
  }
  if (!outcome) throw new BuildError('the process ended without an exit code');
  // A process that ended by itself has its code, whatever the text says.
  if (outcome.error && outcome.code === 255) throw outcome.error;
  return outcome.code;
}

/** The standard input of a process. */
class Input {
  readonly #stream: Stream;
  #isOpen: boolean;

  constructor(stream: Stream, isOpen: boolean) {
    this.#stream = stream;
    this.#isOpen = isOpen;
  }

  async feed(stdin: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const Data of stdin) {
      if (!this.#isOpen) return;
      await send(this.#stream, { $case: 'File', value: { Fd: 0, EOF: false, Data } });
    }
    await this.end();
  }

  async end(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await send(this.#stream, { $case: 'File', value: { Fd: 0, EOF: true, Data: new Uint8Array() } });
  }
}

async function signal(stream: Stream, signals: AsyncIterable<string>): Promise<void> {
  for await (const name of signals)
    await send(stream, { $case: 'Signal', value: { Name: name.replace(/^SIG/, '') } });
}

async function resize(stream: Stream, sizes: AsyncIterable<TerminalSize>): Promise<void> {
  for await (const { rows: Rows, columns: Cols } of sizes)
    await send(stream, { $case: 'Resize', value: { Rows, Cols } });
}

function send(stream: Stream, Input: ExecMessage['Input']): Promise<void> {
  return stream.send(ExecMessage.fromPartial({ ProcessID: PROCESS, ...(Input ? { Input } : {}) }));
}
