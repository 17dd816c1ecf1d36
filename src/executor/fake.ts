import { notFound } from '../base/errors.ts';
import {
  type ExecRequest,
  type Executor,
  ExitError,
  type ProcessControl,
  type RunIo,
  type RunRequest,
} from './types.ts';

const CONTROL: ProcessControl = { signal: async () => {}, resize: async () => {} };

/** What a fake container does: returns its exit code. Its io is the real run's. */
export type FakeProcess = (request: RunRequest, io: RunIo) => number | Promise<number>;

/** An executor without containers, for tests of its users. It mounts the sources as a real one does. */
export class FakeExecutor implements Executor {
  /** Every request so far. */
  readonly requests: RunRequest[] = [];
  readonly #process: FakeProcess;

  constructor(process: FakeProcess = () => 0) {
    this.#process = process;
  }

  async run(request: RunRequest, io: RunIo): Promise<void> {
    io.signal.throwIfAborted();
    this.requests.push(request);
    const views = [await request.root.source.mount(false)];
    try {
      for (const mount of request.mounts) views.push(await mount.source.mount(mount.readonly));
      io.onStarted?.(CONTROL);
      const code = await this.#process(request, io);
      if ((request.meta.validExitCodes ?? [0]).includes(code)) return;
      throw new ExitError(code);
    } finally {
      for (const view of views.reverse()) await view.release();
    }
  }

  async exec(id: string, meta: ExecRequest, io: RunIo): Promise<void> {
    const first = this.requests.find((request) => request.id === id);
    if (!first) throw notFound(`container ${id} not found`);
    io.onStarted?.(CONTROL);
    const code = await this.#process({ ...first, meta }, io);
    if (code !== 0) throw new ExitError(code);
  }
}
