import { BuildError } from '../base/errors.ts';
import type { NetworkSource } from './spec.ts';
import type { NetworkMode } from './types.ts';

/** The network of one container, until released. */
export interface ContainerNetwork {
  readonly source: NetworkSource;
  /** What has passed since it was opened, as provenance has it; absent where nobody counts. */
  readonly counters?: () => Readonly<Record<string, number>> | undefined;
  release(): Promise<void>;
}

/** Makes networks of one kind. */
export interface NetworkProvider {
  /** @param hostname '' when the step asks for none. Aborting stops the work. */
  open(hostname: string, options: { readonly signal?: AbortSignal }): Promise<ContainerNetwork>;
  /** Takes away what the provider made for itself, at the daemon's end. */
  close(): Promise<void>;
}

/** Providers by mode; a mode that is absent is refused. */
export type NetworkProviders = Readonly<Partial<Record<NetworkMode, NetworkProvider>>>;

const nothing = async (): Promise<void> => {};
const fixed = (source: NetworkSource): NetworkProvider => ({
  open: async () => ({ source, release: nothing }),
  close: nothing,
});

/** The daemon's own network. */
export const hostNetwork: NetworkProvider = fixed('host');
/** A namespace with nothing but the loopback interface. */
export const noNetwork: NetworkProvider = fixed('new');

const NAMES: Readonly<Record<NetworkMode, string>> = { unset: 'UNSET', host: 'HOST', none: 'NONE' };

export function networkFor(providers: NetworkProviders, mode: NetworkMode): NetworkProvider {
  const provider = providers[mode];
  if (!provider) throw new BuildError(`unknown network mode ${NAMES[mode]}`);
  return provider;
}
