import type { MarshalOptions, State } from '../../src/llb/index.ts';

/** A graph and how it is marshalled: for linux/amd64 unless it says another platform. */
export type Graph = State | readonly [state: State, options: MarshalOptions];

/** Made twice, so that nothing depends on one object being used in two places. */
export type Graphs = Readonly<Record<string, () => Graph | Promise<Graph>>>;

export const SUM = 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef';
export const COMMIT = '0123456789abcdef0123456789abcdef01234567';
