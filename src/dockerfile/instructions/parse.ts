import { BuildError } from '../../base/errors.ts';
import { type Node, nodeLocation } from '../ast.ts';
import { atLocation, reworded } from '../errors.ts';
import { instructionNames } from '../split.ts';
import { checkDescription, checkNode } from '../lint/file-checks.ts';
import type { Linter } from '../lint/linter.ts';
import { suggestError } from '../suggest.ts';
import { lower, quote, trim } from '../text.ts';
import * as config from './config.ts';
import { parseAdd, parseCopy } from './copy.ts';
import { parseFlags } from './flags.ts';
import { baseOf, description, wordsOf } from './request.ts';
import { parseRun } from './run.ts';
import type { Instruction, Stage, StagedFile } from './types.ts';

type Parser = (node: Node) => Instruction;

const PARSERS: Readonly<Record<string, Parser>> = {
  add: parseAdd,
  arg: config.parseArg,
  cmd: (node) => config.parseCommand(node, 'cmd'),
  copy: parseCopy,
  entrypoint: (node) => config.parseCommand(node, 'entrypoint'),
  env: (node) => config.parsePairs(node, 'env'),
  expose: config.parseExpose,
  healthcheck: config.parseHealthcheck,
  label: (node) => config.parsePairs(node, 'label'),
  maintainer: config.parseMaintainer,
  onbuild: config.parseOnbuild,
  run: parseRun,
  shell: config.parseShell,
  stopsignal: config.parseStopSignal,
  user: config.parseUser,
  volume: config.parseVolume,
  workdir: config.parseWorkdir,
};

const STAGE_NAME = /^[a-z][a-z0-9\-_.]*$/;

/** Reads the instruction of one node; FROM is no instruction here. */
export function parseInstruction(node: Node): Instruction {
  return located(node, () => {
    const name = lower(node.name);
    if (name === 'from') {
      parseFrom(node);
      throw new BuildError('*instructions.Stage is not a command type');
    }
    return instruction(node, name);
  });
}

/**
 * Groups a file's instructions by stage (FEATURES H26).
 * @throws {LocatedError} prefixed `dockerfile parse error on line N: `
 */
export function parseStages(nodes: readonly Node[], lint?: Linter): StagedFile {
  const globalArgs: StagedFile['globalArgs'][number][] = [];
  const stages: (Stage & { readonly instructions: Instruction[] })[] = [];
  for (const node of nodes) {
    if (lint) checkNode(node, lint);
    const parsed = prefixed(node, () =>
      lower(node.name) === 'from' ? parseFrom(node) : instruction(node, lower(node.name)),
    );
    if (lint) checkDefinition(parsed, node, lint);
    const current = stages.at(-1);
    if (!('kind' in parsed)) stages.push({ ...parsed, instructions: [] });
    else if (current !== undefined) current.instructions.push(parsed);
    else if (parsed.kind === 'arg') globalArgs.push(parsed);
    else throw atLocation(new BuildError('no build stage in current context'), nodeLocation(node));
  }
  return { globalArgs, stages };
}

function checkDefinition(parsed: Instruction | ReturnType<typeof parseFrom>, node: Node, lint: Linter): void {
  if (!('kind' in parsed)) checkDescription('FROM', parsed.name === '' ? [] : [parsed.name], node, lint);
  else if (parsed.kind === 'arg')
    checkDescription(
      'ARG',
      parsed.args.map(({ key }) => key),
      node,
      lint,
    );
}

function instruction(node: Node, name: string): Instruction {
  if (!Object.hasOwn(PARSERS, name))
    throw suggestError(`unknown instruction: ${node.name}`, node.name, instructionNames, false);
  return PARSERS[name]!(node);
}

function parseFrom(node: Node): Omit<Stage, 'instructions'> {
  const [baseName = '', asWord = '', asName = '', ...rest] = wordsOf(node);
  const count = wordsOf(node).length;
  const named = count === 3 && lower(asWord) === 'as';
  if (!named && (count !== 1 || rest.length > 0))
    throw new BuildError('FROM requires either one or three arguments');
  const name = named ? lower(asName) : '';
  if (named && !STAGE_NAME.test(name))
    throw new BuildError(
      `invalid name for build stage: ${quote(asName)}, name can't start with a number or contain symbols`,
    );
  const flags = parseFlags(node.flags, { platform: 'string' });
  return {
    name,
    baseName,
    platform: flags.platform ?? '',
    word: node.name,
    asWord,
    code: trim(node.original),
    description: description(node.comments, name),
    location: baseOf(node).location,
    comments: node.comments,
  };
}

function located<T>(node: Node, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw atLocation(error, nodeLocation(node));
  }
}

function prefixed<T>(node: Node, run: () => T): T {
  try {
    return located(node, run);
  } catch (error) {
    const { message } = BuildError.from(error);
    throw reworded(error, `dockerfile parse error on line ${node.startLine}: ${message}`);
  }
}
