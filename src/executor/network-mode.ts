import { existsSync } from 'node:fs';
import { invalidArgument } from '../base/errors.ts';
import { type CniOptions, openBridgeProvider, openCniProvider } from './cni.ts';
import { hostNetwork, type NetworkProvider, type NetworkProviders, noNetwork } from './network.ts';

export interface NetworkOptions extends CniOptions {
  /** `auto`, '' (the same), `host`, `cni` or `bridge`. */
  readonly mode: string;
  /** What `auto` takes first: the value of BUILDKIT_NETWORK_BRIDGE_AUTO. */
  readonly preferBridge: boolean;
}

/** The networks of a worker, and the value of its `network` label. */
export interface OpenedNetworks {
  readonly providers: NetworkProviders;
  readonly label: 'host' | 'cni';
  close(): Promise<void>;
}

/** FEATURES A37. @throws BuildError for an unknown mode or a network that cannot be set up */
export async function openNetworks(options: NetworkOptions): Promise<OpenedNetworks> {
  const { provider, label } = await defaultNetwork(options);
  return {
    providers: { unset: provider, host: hostNetwork, none: noNetwork },
    label,
    close: () => provider.close(),
  };
}

async function defaultNetwork(
  options: NetworkOptions,
): Promise<{ readonly provider: NetworkProvider; readonly label: 'host' | 'cni' }> {
  const auto = options.mode === 'auto' || options.mode === '';
  if (options.mode === 'bridge' || (auto && options.preferBridge))
    return { provider: await openBridgeProvider(options), label: 'cni' };
  if (options.mode === 'cni' || (auto && existsSync(options.configPath)))
    return { provider: await openCniProvider(options), label: 'cni' };
  if (options.mode === 'host') return { provider: hostNetwork, label: 'host' };
  if (!auto) throw invalidArgument(`invalid network mode: ${JSON.stringify(options.mode)}`);
  options.log.warn('using host network as the default');
  return { provider: hostNetwork, label: 'host' };
}
