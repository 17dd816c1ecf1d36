import { isIP } from 'node:net';
import { BuildError, canceled, Code, invalidArgument, notFound } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { NetworkMode } from '../executor/types.ts';
import type { Bridge } from '../frontend/bridge.ts';
import { inside } from '../frontend/tree.ts';
import type { Container } from '../ops/container.ts';
import { releaseAll } from '../ops/exec-mounts.ts';
import type * as pb from '../pb/gateway.ts';
import type { Rootfs } from '../sys/rootfs.ts';

const NETWORK = ['unset', 'host', 'none'] as const;
/** Open at once, for one client. */
const MAX_CONTAINERS = 1000;

/** The containers that the client of a bridge has opened, by the names it gave them (FEATURES I15, I17). */
export class Containers {
  readonly #bridge: Bridge;
  readonly #open = new Map<string, Promise<Container>>();
  #closed = false;

  constructor(bridge: Bridge) {
    this.#bridge = bridge;
  }

  async create(request: pb.NewContainerRequest, signal: AbortSignal): Promise<void> {
    const id = request.ContainerID;
    if (this.#closed) throw new BuildError('the build is over', { code: Code.failedPrecondition });
    if (this.#open.has(id))
      throw new BuildError(`Container ${id} already exists`, { code: Code.alreadyExists, told: true });
    if (this.#open.size >= MAX_CONTAINERS)
      throw new BuildError(`more than ${MAX_CONTAINERS} containers`, { code: Code.resourceExhausted });
    const opening = this.#create(request, signal);
    this.#open.set(id, opening);
    try {
      await opening;
    } catch (error) {
      this.#open.delete(id);
      throw error;
    }
  }

  async #create(request: pb.NewContainerRequest, signal: AbortSignal): Promise<Container> {
    const network: NetworkMode | undefined = NETWORK[request.Network as 0 | 1 | 2];
    if (!network) throw invalidArgument(`unknown network mode ${request.Network}`);
    for (const { IP } of request.extraHosts)
      if (isIP(IP) === 0) throw invalidArgument(`failed to parse IP ${IP}`);
    const mounts = await Promise.all(
      request.Mounts.map(async (llb) => ({ llb, tree: await this.#tree(llb, signal) })),
    );
    return this.#bridge.openContainer(
      {
        name: `container ${request.ContainerID}`,
        os: request.platform?.OS ?? '',
        mounts,
        network,
        hostname: request.hostname,
        extraHosts: request.extraHosts.map(({ Host, IP }) => ({ host: Host, ip: IP })),
      },
      signal,
    );
  }

  async #tree(
    { resultID, dest }: { readonly resultID: string; readonly dest: string },
    signal: AbortSignal,
  ): Promise<ImmutableRef | null> {
    if (resultID === '') return null;
    try {
      return await this.#bridge.tree(resultID, signal);
    } catch (error) {
      throw BuildError.wrap(error, `failed to find ref ${resultID} for ${JSON.stringify(dest)} mount`);
    }
  }

  async get(id: string): Promise<Container> {
    const container = await this.#open.get(id)?.catch(() => undefined); // told to the one who opens it
    if (container) return container;
    const text = `container ${JSON.stringify(id)} previously released or not created`;
    throw new BuildError(text, { code: Code.notFound, told: true });
  }

  /** Runs `work` on what a mount of a container shows now. */
  async inMount<T>(
    { Ref: id, MountIndex: index }: { readonly Ref: string; readonly MountIndex: number },
    work: (root: Rootfs) => T,
  ): Promise<T> {
    const container = await this.#open.get(id)?.catch(() => undefined);
    if (!container) throw notFound(`container details for ${id}@${index} not found`);
    return inside(await this.#bridge.mountLocally(await container.mounted(index).mount(true)), work);
  }

  /** @throws BuildError `canceled` when processes were still running */
  async release(id: string): Promise<void> {
    const opening = this.#open.get(id);
    if (!opening) throw notFound(`container details for ${id} not found`);
    this.#open.delete(id);
    if (await (await opening).release()) throw canceled();
  }

  /** Ends everything; nothing can be opened any more. */
  async close(): Promise<void> {
    this.#closed = true;
    const all = [...this.#open.values()];
    this.#open.clear();
    const opened = await Promise.allSettled(all);
    const containers = opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    await releaseAll(containers.map((container) => async () => void (await container.release())));
  }
}
