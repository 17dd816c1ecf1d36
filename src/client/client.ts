import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, Code, hasCode } from '../base/errors.ts';
import { StoreCheckDefinition } from '../pb/check.ts';
import { ControlDefinition } from '../pb/control.ts';
import { DiskUsageDefinition } from '../pb/diskusage.ts';
import { versionFromWire, workerFromWire } from '../gateway/worker-wire.ts';
import { connectGrpc, type GrpcChannel } from '../rpc/client.ts';
import type { ServiceDefinition, Client as TypedClient } from '../rpc/types.ts';
import { prefixed } from './call-error.ts';
import { dial } from './dial.ts';
import type { ExplainOptions } from './explain.ts';
import type { SolveRequest, SolveResult } from './solve-types.ts';
import type {
  BuildExplanation,
  BuildkitVersion,
  CallOptions,
  ConnectOptions,
  DiskUsagePage,
  PruneRequest,
  StoreCounts,
  StoreFinding,
  UsageInfo,
  WorkerInfo,
} from './types.ts';
import { connectionProblem } from './tls-error.ts';
import { bySize, countsFromWire, pruneToWire, usageFromWire, usagePageFromWire } from './wire.ts';

const DIAL_TIMEOUT_MS = 5_000;
const WAIT_INTERVAL_MS = 1_000;

/** A client of the daemon at `address`. Nothing is dialed before the first call. Close it to let the process end. */
export function connect(address: string, options: ConnectOptions = {}): Client {
  return new Client(address, options);
}

/**
 * A daemon as its users see it. Every call throws BuildError: what failed, colon, the daemon's
 * code and text; Unavailable when nobody answers.
 */
export class Client implements Disposable {
  readonly address: string;
  readonly #options: ConnectOptions;
  #channel: Promise<GrpcChannel> | undefined;

  constructor(address: string, options: ConnectOptions) {
    this.address = address;
    this.#options = options;
  }

  async listWorkers(
    options: CallOptions & { readonly filters?: readonly string[] } = {},
  ): Promise<WorkerInfo[]> {
    return await named('failed to list workers', async () => {
      const control = await this.service(ControlDefinition);
      const response = await control.listWorkers(
        { filter: [...(options.filters ?? [])] },
        callOptions(options),
      );
      return response.record.map(workerFromWire);
    });
  }

  async info(options: CallOptions = {}): Promise<{ readonly buildkitVersion: BuildkitVersion }> {
    return await named('failed to call info', async () => {
      const control = await this.service(ControlDefinition);
      const response = await control.info({}, callOptions(options));
      return { buildkitVersion: versionFromWire(response.buildkitVersion) };
    });
  }

  /** Resolves when the daemon answers; asks once a second. Aborting `signal` gives up. */
  async wait(options: CallOptions = {}): Promise<void> {
    for (;;) {
      try {
        await this.info(options);
        return;
      } catch (error) {
        if (hasCode(error, Code.unimplemented)) return; // an old daemon, but it has answered
        if (!hasCode(error, Code.unavailable)) throw error;
      }
      await sleep(WAIT_INTERVAL_MS, undefined, callOptions(options)).catch((error: unknown) => {
        throw BuildError.from(options.signal?.reason ?? error);
      });
    }
  }

  /** Cache records, smallest first. */
  async diskUsage(
    options: CallOptions & { readonly filters?: readonly string[] } = {},
  ): Promise<UsageInfo[]> {
    return await named('failed to call diskusage', async () => {
      const control = await this.service(ControlDefinition);
      const request = { filter: [...(options.filters ?? [])], ageLimit: 0n };
      const response = await control.diskUsage(request, callOptions(options));
      return response.record.map(usageFromWire).sort(bySize);
    });
  }

  /**
   * Cache records in pages, why they cannot be reclaimed when asked for, and at the end what the disk holds. A
   * daemon that knows upstream's call alone answers with that.
   */
  async *diskUsagePages(
    options: CallOptions & { readonly filters?: readonly string[]; readonly holders?: boolean } = {},
  ): AsyncGenerator<DiskUsagePage> {
    const { filters = [], holders = false } = options;
    let known = false;
    try {
      const service = await this.service(DiskUsageDefinition);
      for await (const page of service.list({ filter: [...filters], holders }, callOptions(options))) {
        known = true;
        yield usagePageFromWire(page);
      }
    } catch (error) {
      if (known || !hasCode(error, Code.unimplemented)) throw prefixed(error, 'failed to call diskusage');
      yield { records: await this.diskUsage(options), holders: new Map(), disk: undefined };
    }
  }

  /** Checks the store of a buildkit-ts daemon, and repairs it if asked to: findings, then counts. */
  async *checkStore(
    options: CallOptions & { readonly deep?: boolean; readonly repair?: boolean } = {},
  ): AsyncGenerator<{ readonly finding?: StoreFinding; readonly counts?: StoreCounts }> {
    const { deep = false, repair = false } = options;
    try {
      const service = await this.service(StoreCheckDefinition);
      for await (const { event } of service.check({ deep, repair }, callOptions(options))) {
        if (event?.$case === 'finding') yield { finding: event.value };
        else if (event) yield { counts: countsFromWire(event.value) };
      }
    } catch (error) {
      throw prefixed(error, 'failed to check the store');
    }
  }

  /** Removes cache records and yields each as it goes. */
  async *prune(request: PruneRequest, options: CallOptions = {}): AsyncGenerator<UsageInfo> {
    try {
      const control = await this.service(ControlDefinition);
      for await (const record of control.prune(pruneToWire(request), callOptions(options)))
        yield usageFromWire(record);
    } catch (error) {
      throw prefixed(error, 'failed to call prune');
    }
  }

  /** Runs a build; aborting the request's signal cancels it at the daemon. */
  async solve(request: SolveRequest): Promise<SolveResult> {
    const { solve } = await import('./solve.ts');
    return await solve(this, request);
  }

  /** Why the steps of build `ref` ran, as far as this daemon keeps that; waits for the end of the build. */
  async explain(ref: string, options: ExplainOptions = {}): Promise<BuildExplanation> {
    const { explain } = await import('./explain.ts');
    return await explain(this, ref, options);
  }

  /** Typed calls of one of the daemon's services, over the shared connection. */
  async service<S extends ServiceDefinition>(definition: S): Promise<TypedClient<S>> {
    return (await this.channel()).client(definition);
  }

  close(): void {
    const channel = this.#channel;
    this.#channel = undefined;
    channel?.then(
      (open) => open.destroy(),
      () => {}, // it was never made
    );
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The connection, dialed if there is none, for as long as `signal` lets it. It belongs to the client. */
  async channel(signal?: AbortSignal): Promise<GrpcChannel> {
    const open = await this.#channel;
    if (open?.isOpen) return open;
    this.#channel = this.#dial(signal);
    try {
      return await this.#channel;
    } catch (error) {
      this.#channel = undefined;
      throw error;
    }
  }

  async #dial(given?: AbortSignal): Promise<GrpcChannel> {
    const { timeoutMs = DIAL_TIMEOUT_MS, signal } = this.#options;
    const signals = [given, signal, timeoutMs > 0 ? AbortSignal.timeout(timeoutMs) : undefined];
    const limit = AbortSignal.any(signals.filter((s) => s !== undefined));
    const { stream, authority } = await dial(this.address, this.#options, limit);
    const channel = connectGrpc(stream, { authority });
    // What a helper command says as it fails is more than the end of the stream it was.
    stream.prependOnceListener('error', (error) => channel.destroy(connectionProblem(error)));
    return channel;
  }
}

/** The part of the options that calls take. */
export function callOptions(options: CallOptions): { signal?: AbortSignal } {
  return options.signal ? { signal: options.signal } : {};
}

async function named<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw prefixed(error, what);
  }
}
