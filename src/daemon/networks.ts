import { BuildError, Code } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { hostNetwork, type NetworkProviders, noNetwork } from '../executor/network.ts';
import type { NetworkConfig } from './config-worker.ts';

/** Providers for the modes a step may ask for; `unset` is the worker's own (FEATURES A37, G10). */
export async function networkProviders(config: NetworkConfig, log: Logger): Promise<NetworkProviders> {
  switch (config.mode) {
    case 'host':
      if (!config.chosen) log.warn('using host network as the default');
      return { unset: hostNetwork, host: hostNetwork, none: noNetwork };
    case 'cni':
    case 'bridge':
      throw new BuildError(`network mode ${config.mode} is not supported yet`, { code: Code.unimplemented });
    default:
      return config.mode satisfies never;
  }
}

export function networkLabel(config: NetworkConfig): string {
  return config.mode === 'host' ? 'host' : 'cni';
}
