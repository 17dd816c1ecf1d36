import { constants } from 'node:os';
import { BuildError, canceled, Code, invalidArgument } from '../base/errors.ts';
import { exitCodeOf, type ProcessControl, UNKNOWN_EXIT_CODE } from '../executor/types.ts';
import type { Container } from '../ops/container.ts';
import type * as pb from '../pb/gateway.ts';
import { statusOf } from '../rpc/status.ts';
import type { MessageStream } from '../rpc/types.ts';
import { toldCode } from './told-code.ts';

/** Input of a process that it has not read yet. */
const MAX_INPUT_BYTES = 1 << 20;
/** Of one stream, those that have ended included. */
const MAX_PROCESSES = 10_000;
const SECURITY = ['sandbox', 'insecure'] as const;

type Stream = MessageStream<pb.ExecMessage, pb.ExecMessage>;
type FindContainer = (id: string) => Promise<Pick<Container, 'start'>>;

/** ExecProcess: all processes of one stream (FEATURES I16). They end with it. */
export async function serveProcesses(stream: Stream, find: FindContainer): Promise<void> {
  const abort = new AbortController();
  const signal = AbortSignal.any([stream.signal, abort.signal]);
  const processes = new Map<string, Process>();
  try {
    for await (const message of stream) await handle(message, processes, stream, find, signal);
    for (const process of processes.values()) process.endInput();
    await Promise.all([...processes.values()].map((process) => process.done));
  } finally {
    abort.abort(canceled());
    await Promise.allSettled([...processes.values()].map((process) => process.done));
  }
}

async function handle(
  { ProcessID: id, Input: input }: pb.ExecMessage,
  processes: Map<string, Process>,
  stream: Stream,
  find: FindContainer,
  signal: AbortSignal,
): Promise<void> {
  if (id === '') throw told('ProcessID required', Code.invalidArgument);
  const process = processes.get(id);
  if (input?.$case === 'Init') {
    if (process) throw told(`Process ${id} already exists`, Code.alreadyExists);
    if (processes.size >= MAX_PROCESSES)
      throw told(`more than ${MAX_PROCESSES} processes`, Code.resourceExhausted);
    processes.set(id, new Process(id, input.value, await find(input.value.ContainerID), stream, signal));
    return;
  }
  if (input?.$case !== 'File' && input?.$case !== 'Resize' && input?.$case !== 'Signal') return;
  if (!process) throw told(`IO for process ${JSON.stringify(id)} not found`, Code.notFound);
  switch (input.$case) {
    case 'File':
      return process.write(input.value);
    case 'Resize':
      return process.resize(input.value);
    case 'Signal':
      return process.signal(input.value.Name);
    default:
      return input satisfies never;
  }
}

function told(text: string, code: Code): BuildError {
  return new BuildError(text, { code, told: true });
}

/** One process of a stream, from its Init to its Done. */
class Process {
  readonly done: Promise<void>;
  readonly #id: string;
  readonly #stream: Stream;
  readonly #init: pb.InitMessage;
  readonly #control = Promise.withResolvers<ProcessControl | undefined>();
  readonly #input: TransformStream<Uint8Array, Uint8Array> | undefined;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #isInputOpen: boolean;
  #isStarted = false;

  constructor(
    id: string,
    init: pb.InitMessage,
    container: Pick<Container, 'start'>,
    stream: Stream,
    signal: AbortSignal,
  ) {
    this.#id = id;
    this.#init = init;
    this.#stream = stream;
    this.#isInputOpen = init.Fds.includes(0);
    if (this.#isInputOpen) {
      const room = new ByteLengthQueuingStrategy({ highWaterMark: MAX_INPUT_BYTES });
      this.#input = new TransformStream(undefined, room);
      this.#writer = this.#input.writable.getWriter();
      this.#writer.closed.catch(() => {}); // nobody reads any more
    }
    this.done = this.#run(container, signal);
    this.done.catch(() => {}); // awaited at the end of the stream
  }

  /** Resolves when there is room for more. */
  async write({ Fd: fd, Data: data, EOF: isLast }: pb.FdMessage): Promise<void> {
    if (fd !== 0 || !this.#writer || !this.#isInputOpen)
      throw told(`fd ${fd} unavailable to write`, Code.outOfRange);
    try {
      await this.#writer.ready;
      if (data.length > 0) this.#writer.write(data).catch(() => {}); // `ready` of the next one says it, too
    } catch {
      // It has ended, or closed its input.
    }
    if (isLast) this.endInput();
  }

  endInput(): void {
    this.#isInputOpen = false;
    this.#writer?.close().catch(() => {}); // closed already
  }

  async resize({ Rows: rows, Cols: columns }: pb.ResizeMessage): Promise<void> {
    if (this.#init.Tty) await (await this.#control.promise)?.resize(rows, columns);
  }

  async signal(name: string): Promise<void> {
    const signal = `SIG${name}`;
    if (!isSignal(signal)) throw told(`Unknown signal ${name}`, Code.invalidArgument);
    await (await this.#control.promise)?.signal(signal);
  }

  async #run(container: Pick<Container, 'start'>, signal: AbortSignal): Promise<void> {
    let failure: unknown;
    try {
      await this.#start(container, signal);
    } catch (error) {
      failure = error;
    }
    this.#control.resolve(undefined);
    this.#writer?.abort().catch(() => {}); // whoever waits for room goes on
    if (signal.aborted && this.#stream.signal.aborted) return;
    if (!this.#isStarted) await this.#send({ $case: 'Started', value: {} });
    await this.#send({ $case: 'Exit', value: exitOf(failure) });
    for (const fd of this.#init.Fds)
      if (fd !== 0) await this.#send({ $case: 'File', value: { Fd: fd, EOF: true, Data: new Uint8Array() } });
    await this.#send({ $case: 'Done', value: {} });
  }

  async #start(container: Pick<Container, 'start'>, signal: AbortSignal): Promise<void> {
    const { Meta: meta, Security, secretenv, Tty, Fds } = this.#init;
    if (!meta) throw invalidArgument('a process needs its meta');
    const security: (typeof SECURITY)[number] | undefined = SECURITY[Security as 0 | 1];
    if (!security) throw invalidArgument(`invalid security mode ${Security}`);
    await container.start(
      {
        args: meta.args,
        env: meta.env,
        cwd: meta.cwd,
        user: meta.user,
        removeMountStubsRecursive: meta.removeMountStubsRecursive,
        security,
        secretEnv: secretenv,
        tty: Tty,
      },
      {
        signal,
        ...(this.#input ? { stdin: this.#input.readable } : {}),
        ...(Fds.includes(1) ? { onStdout: (data) => this.#output(1, data) } : {}),
        ...(Fds.includes(2) ? { onStderr: (data) => this.#output(2, data) } : {}),
        onStarted: (control) => {
          this.#isStarted = true;
          this.#control.resolve(control);
          this.#send({ $case: 'Started', value: {} }).catch(() => {}); // the stream is over, and ends the process
        },
      },
    );
  }

  #output(fd: number, data: Uint8Array): Promise<void> {
    return this.#send({ $case: 'File', value: { Fd: fd, EOF: false, Data: data } });
  }

  #send(input: NonNullable<pb.ExecMessage['Input']>): Promise<void> {
    return this.#stream.send({ ProcessID: this.#id, Input: input });
  }
}

function exitOf(failure: unknown): pb.ExitMessage {
  if (failure === undefined) return { Code: 0, Error: undefined };
  const error = statusOf(toldCode(BuildError.from(failure)));
  return { Code: exitCodeOf(failure) ?? UNKNOWN_EXIT_CODE, Error: error };
}

function isSignal(name: string): name is NodeJS.Signals {
  return Object.hasOwn(constants.signals, name);
}
