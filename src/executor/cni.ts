import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, Code } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { systemErrorText } from '../sys/errno.ts';
import { tryFlock } from '../sys/file.ts';
import { detachAll } from '../sys/mount.ts';
import { deleteBridge, interfaceExists } from '../sys/netif.ts';
import { findExecutable, spawn } from '../sys/spawn.ts';
import {
  addNetwork,
  type CniCall,
  type CniNetwork,
  type CniPlugins,
  type CniResult,
  deleteNetwork,
  parseCniConfig,
} from './cni-plugin.ts';
import { pairCounters } from './interface-counters.ts';
import type { ContainerNetwork, NetworkProvider } from './network.ts';

export interface CniOptions {
  /** Keeps namespaces in `net/cni` below it. */
  readonly root: string;
  /** `.conflist`, or the configuration of one plugin. */
  readonly configPath: string;
  readonly binaryDir: string;
  readonly bridgeName: string;
  readonly bridgeSubnet: string;
  /** PATH, for plugins and the tools they call. */
  readonly searchPath: string;
  /** Taken while the network is first tried, among several daemons. */
  readonly initLockPath?: string;
  readonly log: Logger;
}

const LOCK_POLL_MS = 50;
const LOOPBACK: CniNetwork = { name: 'cni-loopback', cniVersion: '0.3.1', plugins: [{ type: 'loopback' }] };

/** A network from the configuration file beside loopback, tried once before it is given out (FEATURES A37). */
export async function openCniProvider(options: CniOptions): Promise<NetworkProvider> {
  const { configPath, binaryDir } = options;
  let text: string;
  try {
    text = readFileSync(configPath, 'utf8');
  } catch (error) {
    throw new BuildError(
      `failed to read cni config ${JSON.stringify(configPath)}: ${systemErrorText(error)}`,
      { cause: error },
    );
  }
  if (!existsSync(binaryDir)) {
    throw new BuildError(
      `failed to read cni binary dir ${JSON.stringify(binaryDir)}: stat ${binaryDir}: no such file or directory`,
    );
  }
  const networks = [
    { network: LOOPBACK, interfaceName: 'lo' },
    { network: parseCniConfig(text, configPath), interfaceName: 'eth0' },
  ];
  const provider = new CniProvider(options, { dirs: [binaryDir], searchPath: options.searchPath }, networks);
  await provider.start();
  return provider;
}

/** The built-in bridge with addresses of its own and masquerading. Its interface goes when the provider closes. */
export async function openBridgeProvider(options: CniOptions): Promise<NetworkProvider> {
  const { dirs, names } = bridgePlugins(options);
  const network: CniNetwork = {
    name: 'buildkit',
    cniVersion: '1.0.0',
    plugins: [
      { type: names.loopback },
      {
        type: names.bridge,
        bridge: options.bridgeName,
        isDefaultGateway: true,
        ipMasq: true,
        ipam: { type: names.hostLocal, ranges: [[{ subnet: options.bridgeSubnet }]] },
      },
      { type: names.firewall, backend: '', ingressPolicy: 'same-bridge' },
    ],
  };
  const made = !interfaceExists(options.bridgeName);
  const plugins = { dirs, searchPath: options.searchPath };
  const provider = new CniProvider(options, plugins, [{ network, interfaceName: 'eth0' }], () => {
    if (made) deleteBridge(options.bridgeName);
  });
  await provider.start();
  return provider;
}

/** Plugins that come along under their own names, else the host's. */
function bridgePlugins(options: CniOptions): {
  readonly dirs: readonly string[];
  readonly names: Readonly<Record<'bridge' | 'loopback' | 'hostLocal' | 'firewall', string>>;
} {
  const own = ['bridge', 'loopback', 'host-local', 'firewall'].map((name) =>
    findExecutable(`buildkit-cni-${name}`, options.searchPath),
  );
  if (own.every((path) => path !== undefined)) {
    const [bridge = '', loopback = '', hostLocal = '', firewall = ''] = own.map((path) => basename(path));
    return {
      dirs: [...new Set(own.map((path) => dirname(path)))],
      names: { bridge, loopback, hostLocal, firewall },
    };
  }
  const bridge = join(options.binaryDir, 'bridge');
  if (!existsSync(bridge)) {
    throw new BuildError(
      `failed to find CNI bridge ${JSON.stringify(bridge)} or buildkit-cni-bridge: stat ${bridge}: no such file or directory`,
      { code: Code.notFound },
    );
  }
  return {
    dirs: [options.binaryDir],
    names: { bridge: 'bridge', loopback: 'loopback', hostLocal: 'host-local', firewall: 'firewall' },
  };
}

interface Attachment {
  readonly network: CniNetwork;
  readonly interfaceName: string;
}

class CniProvider implements NetworkProvider {
  readonly #options: CniOptions;
  readonly #plugins: CniPlugins;
  readonly #networks: readonly Attachment[];
  readonly #onClose: () => void;
  readonly #dir: string;

  constructor(
    options: CniOptions,
    plugins: CniPlugins,
    networks: readonly Attachment[],
    onClose: () => void = () => {},
  ) {
    this.#options = options;
    this.#plugins = plugins;
    this.#networks = networks;
    this.#onClose = onClose;
    this.#dir = join(options.root, 'net', 'cni');
  }

  /** Clears what an earlier daemon left and makes one namespace, so that a bad configuration shows at once. */
  async start(): Promise<void> {
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    for (const id of readdirSync(this.#dir)) {
      if (!id.endsWith('.json')) await this.#remove(id, readResults(join(this.#dir, `${id}.json`)));
    }
    using _lock = await initLock(this.#options.initLockPath);
    const network = await this.open('', {});
    await network.release();
  }

  async open(hostname: string, { signal }: { readonly signal?: AbortSignal }): Promise<ContainerNetwork> {
    const id = randomBytes(12).toString('hex');
    const path = join(this.#dir, id);
    const results: (CniResult | undefined)[] = [];
    try {
      await makeNamespace(path, this.#options.searchPath);
      const setups = this.#networks.map(async ({ network, interfaceName }, index) => {
        results[index] = undefined;
        const call = this.#call(id, interfaceName, hostname);
        results[index] = await addNetwork(this.#plugins, network, call, signal);
      });
      // All have ended before anything is taken down again.
      for (const outcome of await Promise.allSettled(setups))
        if (outcome.status === 'rejected') throw outcome.reason;
      writeFileSync(`${path}.json`, JSON.stringify({ hostname, results }));
    } catch (error) {
      await this.#remove(id, { hostname, results });
      if (signal?.aborted) throw error;
      throw BuildError.wrap(error, 'CNI setup error');
    }
    const counters = pairCounters(results);
    return {
      source: { path },
      ...(counters ? { counters } : {}),
      release: () => this.#remove(id, { hostname, results }),
    };
  }

  async close(): Promise<void> {
    this.#onClose();
  }

  #call(id: string, interfaceName: string, hostname: string): CniCall {
    const args: Record<string, string> =
      hostname === '' ? {} : { K8S_POD_NAME: hostname, IgnoreUnknown: '1' };
    return { containerId: id, netns: join(this.#dir, id), interfaceName, args };
  }

  /** Every network is taken down although one fails; the namespace goes in any case. */
  async #remove(id: string, { hostname, results }: Kept): Promise<void> {
    const path = join(this.#dir, id);
    await Promise.all(
      this.#networks.map(async ({ network, interfaceName }, index) => {
        try {
          await deleteNetwork(
            this.#plugins,
            network,
            this.#call(id, interfaceName, hostname),
            results[index],
          );
        } catch (error) {
          this.#options.log.warn('failed to release a network', { network: network.name, id, error });
        }
      }),
    );
    detachAll(path);
    for (const file of [path, `${path}.json`]) rmSync(file, { force: true });
  }
}

interface Kept {
  readonly hostname: string;
  readonly results: readonly (CniResult | undefined)[];
}

function readResults(path: string): Kept {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Kept;
  } catch {
    // The daemon ended while it set the network up: plugins clear up without it as well as they can.
    return { hostname: '', results: [] };
  }
}

/** A new network namespace at the file `path`, made by a process of its own so that ours never changes. */
async function makeNamespace(path: string, searchPath: string): Promise<void> {
  const file = findExecutable('unshare', searchPath);
  if (!file) throw new BuildError('failed to find unshare binary (util-linux)', { code: Code.notFound });
  writeFileSync(path, '', { flag: 'wx', mode: 0o600 });
  const child = spawn({
    file,
    args: ['unshare', `--net=${path}`, 'true'],
    env: { PATH: searchPath },
    stderr: 'pipe',
  });
  let message = '';
  for await (const chunk of child.stderr ?? []) message += String(chunk);
  const { code } = await child.exited;
  if (code !== 0)
    throw new BuildError(`failed to create network namespace: ${message.trim() || `exit status ${code}`}`);
}

async function initLock(path: string | undefined): Promise<Disposable> {
  if (!path) return { [Symbol.dispose]: () => {} };
  const fd = openSync(path, 'w', 0o600);
  while (!tryFlock(fd, 'exclusive')) await sleep(LOCK_POLL_MS);
  return { [Symbol.dispose]: () => closeSync(fd) };
}
