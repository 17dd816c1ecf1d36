import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { goJson } from '../base/gojson.ts';
import { Definition, type FileAction, Op, type OpMetadata } from '../pb/ops.ts';
import type { CommandContext } from './context.ts';
import { readStdin } from './stdin.ts';

/** `buildctl debug dump-llb`: a definition for people to read (FEATURES L18). Needs no daemon. */
export async function runDumpLlb({ flags }: CommandContext): Promise<void> {
  const [file] = flags.args;
  const { readFileSync } = await import('node:fs');
  const bytes = file === undefined || file === '-' ? await readStdin() : readFileSync(file);
  const ops = parseOps(bytes);
  process.stdout.write(flags.bool('dot') ? dot(ops) : ops.map(opJson).join(''));
}

interface DumpedOp {
  readonly op: Op;
  readonly digest: string;
  readonly metadata: OpMetadata | undefined;
}

function parseOps(bytes: Uint8Array): DumpedOp[] {
  try {
    const definition = Definition.decode(bytes);
    return definition.def.map((encoded) => {
      const digest = digestOf(encoded);
      return { op: Op.decode(encoded), digest, metadata: definition.metadata[digest] };
    });
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse LLB definition');
  }
}

function opJson({ op, digest, metadata }: DumpedOp): string {
  const message = { Op: plain(op, ''), Digest: digest, OpMetadata: metadata ? plain(metadata, '') : {} };
  return `${goJson(message)}\n`;
}

/** Fields that are tables of the user's names, which are sorted. */
const MAPS = new Set(['description', 'caps', 'attrs', 'metadata', 'locations']);
/** Fields whose JSON name has underscores. */
const SNAKE =
  /^(ignoreCache|exportCache|progressGroup|linuxResources|proxyEnv|(http|https|ftp|no|all)Proxy|includePatterns|excludePatterns|requiredPaths)$/;

/** A message without its empty fields; the choice of a oneof under its capitalized name. */
function plain(value: unknown, key: string): unknown {
  if (Array.isArray(value)) return value.map((item) => plain(item, ''));
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  const map = MAPS.has(key) || key === 'inputs';
  if (map) return new Map(Object.entries(value).map(([name, item]) => [name, plain(item, '')]));
  const out: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value)) {
    if (isChoice(item)) out[name[0]!.toUpperCase() + name.slice(1)] = { [item.$case]: plain(item.value, '') };
    else if (name === 'op' && item === undefined) out.Op = {};
    else if (MAPS.has(name) && Object.keys(item as object).length === 0) continue;
    else if (!isZero(item) || isActionIndex(value, name)) out[jsonName(name)] = plain(item, name);
  }
  return out;
}

function jsonName(name: string): string {
  return SNAKE.test(name) ? name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`) : name;
}

function isChoice(value: unknown): value is { $case: string; value: unknown } {
  return typeof value === 'object' && value !== null && '$case' in value;
}

function isActionIndex(message: object, name: string): boolean {
  return 'secondaryInput' in message && (name === 'input' || name === 'secondaryInput' || name === 'output');
}

function isZero(value: unknown): boolean {
  if (value === undefined || value === '' || value === 0 || value === 0n || value === false) return true;
  if (Array.isArray(value) || value instanceof Uint8Array) return value.length === 0;
  return false;
}

function dot(ops: readonly DumpedOp[]): string {
  const quote = (text: string): string => JSON.stringify(text);
  const lines = ['digraph {'];
  for (const { op, digest } of ops) {
    const [label, shape] = nodeOf(op, digest);
    lines.push(`  ${quote(digest)} [label=${quote(label)} shape=${quote(shape)}];`);
  }
  for (const { op, digest } of ops) {
    op.inputs.forEach((input, index) => {
      const mounts = op.op?.$case === 'exec' ? op.op.value.mounts : [];
      const mount = mounts.findLast((m) => Number(m.input) === index && m.dest !== '/');
      lines.push(`  ${quote(input.digest)} -> ${quote(digest)} [label=${quote(mount?.dest ?? '')}];`);
    });
  }
  return `${[...lines, '}'].join('\n')}\n`;
}

function nodeOf({ op }: Op, digest: string): readonly [label: string, shape: string] {
  switch (op?.$case) {
    case 'source':
      return [op.value.identifier, 'ellipse'];
    case 'exec':
      return [op.value.meta?.args.join(' ') ?? '', 'box'];
    case 'build':
      return ['build', 'box3d'];
    case 'merge':
      return ['merge', 'invtriangle'];
    case 'diff':
      return ['diff', 'doublecircle'];
    case 'file':
      return [op.value.actions.map(actionText).join(','), 'note'];
    default:
      return [digest, 'plaintext'];
  }
}

function actionText({ action }: FileAction): string {
  switch (action?.$case) {
    case 'copy':
      return `copy{src=${action.value.src}, dest=${action.value.dest}}`;
    case 'mkfile':
    case 'mkdir':
    case 'rm':
      return `${action.$case}{path=${action.value.path}}`;
    case 'symlink':
      return `symlink{oldpath=${action.value.oldpath}, newpath=${action.value.newpath}}`;
    default:
      return '';
  }
}
