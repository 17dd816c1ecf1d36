import { BuildError, Code } from '../../base/errors.ts';
import type { Frontend } from '../../gateway/types.ts';
import { prefixed } from '../call-error.ts';
import { connect as open, type Client as Connection } from '../client.ts';
import { DEFAULT_ADDRESS } from '../dial.ts';
import type { HistoryEvent, HistoryRequest, HistoryUpdate } from '../history-types.ts';
import { type BuildDaemon, openDaemon } from '../private-daemon.ts';
import type {
  BuildExplanation,
  BuildkitVersion,
  CallOptions,
  PruneRequest,
  SolveStatus,
  UsageInfo,
  WorkerInfo,
} from '../types.ts';
import { bySize } from '../wire.ts';
import { startBuild } from './build.ts';
import type {
  Build,
  BuildOptions,
  Client,
  ConnectOptions,
  DiskUsageDetails,
  ListOptions,
  SolveOptions,
} from './types.ts';

const WORDS = { address: 'the option address or BUILDKIT_HOST', root: 'the option privateDaemon.root' };

/** A connected client. @throws BuildError when no daemon answers */
export async function openClient(options: ConnectOptions): Promise<Client> {
  const daemon = await daemonOf(options);
  const { tls, timeoutMs, dial } = options;
  const connection = open(daemon.address, {
    ...(tls && { tls }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(dial && { dial }),
  });
  const client = new ConnectedClient(connection, daemon);
  try {
    await connection.channel(options.signal);
    return client;
  } catch (error) {
    await client.close();
    throw BuildError.from(daemon.explain(error));
  }
}

async function daemonOf(options: ConnectOptions): Promise<BuildDaemon> {
  const { privateDaemon, onNotice = () => {}, signal = new AbortController().signal } = options;
  const address = options.address || process.env.BUILDKIT_HOST || '';
  const root = process.env.BUILDKIT_ROOT;
  const asked = address !== '' || privateDaemon === false || options.dial !== undefined;
  try {
    return await openDaemon({
      address: address || DEFAULT_ADDRESS,
      asked,
      private: { ...(root ? { root } : {}), ...(privateDaemon || {}) },
      words: WORDS,
      onNotice,
      signal,
    });
  } catch (error) {
    throw BuildError.from(error);
  }
}

class ConnectedClient implements Client {
  readonly address: string;
  readonly #connection: Connection;
  readonly #daemon: BuildDaemon;
  readonly #closed = new AbortController();
  readonly #builds = new Set<Build>();

  constructor(connection: Connection, daemon: BuildDaemon) {
    this.address = daemon.address;
    this.#connection = connection;
    this.#daemon = daemon;
  }

  solve(options: SolveOptions): Build {
    return this.#start(options);
  }

  build(frontend: Frontend, options: BuildOptions = {}): Build {
    return this.#start({ ...options, run: frontend });
  }

  #start(options: SolveOptions & { readonly run?: Frontend }): Build {
    const build = startBuild(
      {
        connection: this.#connection,
        closed: this.#closed.signal,
        explain: (error) => this.#daemon.explain(error),
      },
      options,
    );
    this.#builds.add(build);
    const over = (): void => void this.#builds.delete(build);
    build.then(over, over);
    return build;
  }

  diskUsage(options: ListOptions = {}): Promise<UsageInfo[]> {
    return this.#connection.diskUsage(this.#call(options));
  }

  async diskUsageDetails(options: ListOptions = {}): Promise<DiskUsageDetails> {
    const records: UsageInfo[] = [];
    const holders = new Map<string, readonly string[]>();
    let disk: DiskUsageDetails['disk'];
    for await (const page of this.#connection.diskUsagePages({ ...this.#call(options), holders: true })) {
      records.push(...page.records);
      for (const [id, reasons] of page.holders) holders.set(id, reasons);
      disk = page.disk ?? disk;
    }
    return { records: records.sort(bySize), holders, disk };
  }

  prune(request: PruneRequest = {}, options: CallOptions = {}): AsyncIterable<UsageInfo> {
    return this.#connection.prune(request, this.#call(options));
  }

  workers(options: ListOptions = {}): Promise<WorkerInfo[]> {
    return this.#connection.listWorkers(this.#call(options));
  }

  info(options: CallOptions = {}): Promise<{ readonly buildkitVersion: BuildkitVersion }> {
    return this.#connection.info(this.#call(options));
  }

  async *history(request: HistoryRequest = {}, options: CallOptions = {}): AsyncGenerator<HistoryEvent> {
    const { history } = await import('../history.ts');
    const call = this.#call(options);
    yield* failing('failed to list the build history', history(this.#connection, request, call));
  }

  async updateHistory(ref: string, update: HistoryUpdate, options: CallOptions = {}): Promise<void> {
    const { updateHistory } = await import('../history.ts');
    try {
      await updateHistory(this.#connection, ref, update, this.#call(options));
    } catch (error) {
      throw prefixed(error, `failed to update the record of build ${ref}`);
    }
  }

  async *progress(ref: string, options: CallOptions = {}): AsyncGenerator<SolveStatus> {
    const { buildProgress } = await import('../history.ts');
    const call = this.#call(options);
    yield* failing(`failed to read the progress of build ${ref}`, buildProgress(this.#connection, ref, call));
  }

  explain(ref: string, options: CallOptions = {}): Promise<BuildExplanation> {
    return this.#connection.explain(ref, this.#call(options));
  }

  async *readBlob(digest: string, options: CallOptions = {}): AsyncGenerator<Uint8Array> {
    const { readBlob } = await import('../history.ts');
    const call = this.#call(options);
    yield* failing(`failed to read blob ${digest}`, readBlob(this.#connection, digest, call));
  }

  /** The options of a call, which ends with the client at the latest. */
  #call<T extends CallOptions>(options: T): T & { readonly signal: AbortSignal } {
    const { signal } = this.#closed;
    return { ...options, signal: options.signal ? AbortSignal.any([options.signal, signal]) : signal };
  }

  async close(): Promise<void> {
    this.#closed.abort(new BuildError('the client is closed', { code: Code.canceled }));
    await Promise.all([...this.#builds].map((build) => build[Symbol.asyncDispose]()));
    this.#connection.close();
    await this.#daemon[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function* failing<T>(what: string, items: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* items;
  } catch (error) {
    throw prefixed(error, what);
  }
}
