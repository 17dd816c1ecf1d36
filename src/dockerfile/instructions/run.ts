import { BuildError } from '../../base/errors.ts';
import type { Node } from '../ast.ts';
import { quote } from '../text.ts';
import { parseFlags } from './flags.ts';
import { mountFrom, parseDevice } from './mount.ts';
import { baseOf, commandLine } from './request.ts';
import type { RunInstruction } from './types.ts';

const NETWORKS: readonly RunInstruction['network'][] = ['default', 'none', 'host'];
const SECURITY: readonly RunInstruction['security'][] = ['sandbox', 'insecure'];

export function parseRun(node: Node): RunInstruction {
  const flags = parseFlags(node.flags, {
    mount: 'strings',
    device: 'strings',
    network: 'string',
    security: 'string',
  });
  const mounts = flags.mount ?? [];
  const devices = (flags.device ?? []).map(parseDevice);
  const mountSources = mounts.map(mountFrom);
  const network = NETWORKS.find((name) => name === (flags.network ?? 'default'));
  if (network === undefined) throw new BuildError(`invalid network mode ${quote(flags.network ?? '')}`);
  const security = SECURITY.find((name) => name === (flags.security ?? 'sandbox'));
  if (security === undefined) throw new BuildError(`security ${quote(flags.security ?? '')} is not valid`);
  return {
    kind: 'run',
    ...baseOf(node),
    command: commandLine(node),
    heredocs: node.heredocs.map(({ name, content, chomp }) => ({ name, data: content, chomp })),
    mounts,
    mountSources,
    devices,
    network,
    security,
  };
}
