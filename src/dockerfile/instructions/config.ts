import { BuildError } from '../../base/errors.ts';
import type { KeyValue, Node } from '../ast.ts';
import { cut, intProblem, parseInt64, quote, trim, upper } from '../text.ts';
import { parseFlags } from './flags.ts';
import { baseOf, commandLine, commandWords, description, onlyWord, requireWords } from './request.ts';
import type { ArgPair, Healthcheck, InstructionOf } from './types.ts';
import { parseDuration } from './units.ts';

const MIN_INTERVAL = 1_000_000n;
const NO_HEALTH: Omit<Healthcheck, 'test'> = {
  interval: 0n,
  timeout: 0n,
  startPeriod: 0n,
  startInterval: 0n,
  retries: 0,
};

export function parsePairs(node: Node, kind: 'env' | 'label'): InstructionOf<'env'> {
  parseFlags(node.flags, {});
  const pairs: readonly KeyValue[] = node.args.kind === 'pairs' ? node.args.pairs : [];
  const instruction = upper(kind);
  if (pairs.length === 0) throw new BuildError(`${instruction} requires at least one argument`);
  if (pairs.some((pair) => pair.key === '')) throw new BuildError(`${instruction} names can not be blank`);
  return { kind, ...baseOf(node), pairs };
}

export function parseMaintainer(node: Node): InstructionOf<'maintainer'> {
  const maintainer = onlyWord(node, 'MAINTAINER');
  parseFlags(node.flags, {});
  return { kind: 'maintainer', ...baseOf(node), maintainer };
}

export function parseArg(node: Node): InstructionOf<'arg'> {
  const args = requireWords(node, 'ARG').map((word): ArgPair => {
    const [key, value] = cut(word, '=');
    if (key === '' && value !== undefined) throw new BuildError('ARG names can not be blank');
    return { key, description: description(node.comments, key), ...(value === undefined ? {} : { value }) };
  });
  return { kind: 'arg', ...baseOf(node), args };
}

export function parseCommand(node: Node, kind: 'cmd' | 'entrypoint'): InstructionOf<'cmd'> {
  parseFlags(node.flags, {});
  return { kind, ...baseOf(node), command: commandLine(node) };
}

export function parseExpose(node: Node): InstructionOf<'expose'> {
  const ports = requireWords(node, 'EXPOSE').toSorted();
  parseFlags(node.flags, {});
  return { kind: 'expose', ...baseOf(node), ports };
}

export function parseUser(node: Node): InstructionOf<'user'> {
  const user = onlyWord(node, 'USER');
  parseFlags(node.flags, {});
  return { kind: 'user', ...baseOf(node), user };
}

export function parseWorkdir(node: Node): InstructionOf<'workdir'> {
  const path = onlyWord(node, 'WORKDIR');
  parseFlags(node.flags, {});
  return { kind: 'workdir', ...baseOf(node), path };
}

export function parseVolume(node: Node): InstructionOf<'volume'> {
  const words = requireWords(node, 'VOLUME');
  parseFlags(node.flags, {});
  const volumes = words.map(trim);
  if (volumes.includes('')) throw new BuildError('VOLUME specified can not be an empty string');
  return { kind: 'volume', ...baseOf(node), volumes };
}

export function parseStopSignal(node: Node): InstructionOf<'stopsignal'> {
  return { kind: 'stopsignal', ...baseOf(node), signal: onlyWord(node, 'STOPSIGNAL') };
}

export function parseShell(node: Node): InstructionOf<'shell'> {
  parseFlags(node.flags, {});
  const shell = requireWords(node, 'SHELL');
  if (node.args.kind !== 'json') throw new BuildError('SHELL requires the arguments to be in JSON form');
  return { kind: 'shell', ...baseOf(node), shell };
}

/** The trigger is kept as text and read again by the build that it runs in. */
export function parseOnbuild(node: Node): InstructionOf<'onbuild'> {
  const trigger = upper(trim(requireWords(node, 'ONBUILD')[0]!));
  parseFlags(node.flags, {});
  if (trigger === 'ONBUILD') throw new BuildError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (trigger === 'MAINTAINER' || trigger === 'FROM')
    throw new BuildError(`${trigger} isn't allowed as an ONBUILD trigger`);
  const bodies = node.heredocs.map((heredoc) => `\n${heredoc.content}${heredoc.name}`);
  const expression = node.original.replace(/^[\t\n\f\r ]*ONBUILD[\t\n\f\r ]*/i, '') + bodies.join('');
  return { kind: 'onbuild', ...baseOf(node), expression };
}

export function parseHealthcheck(node: Node): InstructionOf<'healthcheck'> {
  const [type = '', ...args] = requireWords(node, 'HEALTHCHECK');
  if (upper(type) === 'NONE') {
    if (args.length > 0) throw new BuildError('HEALTHCHECK NONE takes no arguments');
    return { kind: 'healthcheck', ...baseOf(node), health: { test: ['NONE'], ...NO_HEALTH } };
  }
  const flags = parseFlags(node.flags, {
    interval: 'string',
    timeout: 'string',
    'start-period': 'string',
    'start-interval': 'string',
    retries: 'string',
  });
  const test = healthTest(node, upper(type), args);
  const health: Healthcheck = {
    test,
    interval: interval('interval', flags.interval),
    timeout: interval('timeout', flags.timeout),
    startPeriod: interval('start-period', flags['start-period']),
    startInterval: interval('start-interval', flags['start-interval']),
    retries: retries(flags.retries),
  };
  return { kind: 'healthcheck', ...baseOf(node), health };
}

function healthTest(node: Node, type: string, args: readonly string[]): readonly string[] {
  if (type !== 'CMD') throw new BuildError(`Unknown type ${quote(type)} in HEALTHCHECK (try CMD)`);
  const json = node.args.kind === 'json';
  const words = commandWords(json, args);
  if (words.length === 0) throw new BuildError('Missing command after HEALTHCHECK CMD');
  return [json ? 'CMD' : 'CMD-SHELL', ...words];
}

function interval(name: string, value: string | undefined): bigint {
  if (!value) return 0n;
  const duration = parseDuration(value);
  if (duration !== 0n && duration < MIN_INTERVAL)
    throw new BuildError(`Interval ${quote(name)} cannot be less than 1ms`);
  return duration;
}

function retries(value: string | undefined): number {
  if (!value) return 0;
  const parsed = parseInt64(value);
  if (parsed === undefined || parsed < -(1n << 31n) || parsed >= 1n << 31n)
    throw new BuildError(intProblem(value, 32));
  if (parsed < 0n) throw new BuildError(`--retries cannot be negative (${parsed})`);
  return Number(parsed);
}
