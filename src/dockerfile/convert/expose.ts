import { isIP } from 'node:net';
import { BuildError } from '../../base/errors.ts';
import { type Finding, rules } from '../lint/rules.ts';
import { cut, lower, parseInt64, quote } from '../text.ts';

const PROTOCOLS: readonly string[] = ['tcp', 'udp', 'sctp'];
const MAX_PORT = 65535n;

/**
 * `[ip:][hostPort:]port[-port][/proto]` as `port/proto` of every port in it (FEATURES H49). `report` is told
 * which rules it breaks.
 */
export function exposedPorts(written: string, report: (finding: Finding) => void): string[] {
  const parts = written.split(':');
  const container = parts.at(-1) ?? '';
  const hostPort = parts.length > 1 ? parts.at(-2)! : '';
  const address = parts.slice(0, -2).join(':');
  const [ports, protocol] = withPrefix(`invalid port: ${quote(written)}`, () => splitProtocol(container));
  if (protocol !== lower(protocol)) report(rules.exposeProtoCasing(written));
  if (address !== '' || hostPort !== '') report(rules.exposeInvalidFormat(written));
  checkAddress(address);
  const range = portRange(ports);
  if (range === undefined) throw new BuildError(`invalid containerPort: ${ports}`);
  if (hostPort !== '') checkHostPort(hostPort, ports, range);
  const count = range.end - range.start + 1;
  return Array.from({ length: count }, (_, i) => `${range.start + i}/${lower(protocol)}`);
}

function splitProtocol(text: string): [string, string] {
  const [port, protocol = ''] = cut(text, '/');
  if (port === '') throw new BuildError('no port specified');
  if (protocol === '') return [port, 'tcp'];
  if (!PROTOCOLS.includes(lower(protocol))) throw new BuildError(`invalid proto: ${protocol}`);
  return [port, protocol];
}

function checkAddress(address: string): void {
  if (address === '') return;
  const problem = address.startsWith('[') ? bracketProblem(address) : undefined;
  if (problem !== undefined)
    throw new BuildError(`invalid IP address ${address}: address ${address}:: ${problem}`);
  const inner = address.startsWith('[') ? address.slice(1, -1) : address;
  // A zone belongs to an interface, not to an address.
  if (inner !== '' && (isIP(inner) === 0 || inner.includes('%')))
    throw new BuildError(`invalid IP address: ${inner}`);
}

/** Why an address in brackets is none; undefined for a good one. */
function bracketProblem(address: string): string | undefined {
  const end = address.indexOf(']');
  if (end < 0) return "missing ']' in address";
  const rest = address.slice(end + 1);
  if (rest !== '') return rest.startsWith(':') ? 'too many colons in address' : 'missing port in address';
  return address.includes('[', 1) ? "unexpected '[' in address" : undefined;
}

function checkHostPort(hostPort: string, ports: string, range: { start: number; end: number }): void {
  const host = portRange(hostPort);
  if (host === undefined) throw new BuildError(`invalid hostPort: ${hostPort}`);
  // A range of host ports may serve one container port.
  if (range.end - range.start !== host.end - host.start && range.end !== range.start)
    throw new BuildError(`invalid ranges specified for container and host Ports: ${ports} and ${hostPort}`);
}

function portRange(text: string): { start: number; end: number } | undefined {
  const [first, last] = cut(text, '-');
  const start = portNumber(first);
  if (start === undefined) return undefined;
  if (last === undefined || last === first) return { start, end: start };
  const end = portNumber(last);
  return end === undefined || end < start ? undefined : { start, end };
}

function portNumber(text: string): number | undefined {
  const port = parseInt64(text);
  return port === undefined || port < 0n || port > MAX_PORT ? undefined : Number(port);
}

function withPrefix<T>(prefix: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw BuildError.wrap(error, prefix);
  }
}
