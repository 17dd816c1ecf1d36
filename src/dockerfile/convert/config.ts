import { BuildError } from '../../base/errors.ts';
import { setEnv as addEnv, setUser as setStateUser } from '../../llb/state.ts';
import type { KeyValue } from '../ast.ts';
import type { Location } from '../location.ts';
import { expandChecked, expandWords } from '../expand.ts';
import type { ArgPair, Healthcheck, Instruction, InstructionOf } from '../instructions/types.ts';
import { formatDuration } from '../instructions/units.ts';
import { checkSecretName, checkVariables } from '../lint/instruction-checks.ts';
import { rules } from '../lint/rules.ts';
import { quoteList } from '../text.ts';
import type { DispatchContext } from './dispatch.ts';
import { exposedPorts } from './expose.ts';
import { addHistory } from './history.ts';
import type { Image } from './image.ts';
import { stateVariables } from './llb.ts';
import { SCAN_ARGS } from './scan.ts';
import { checkSignal } from './signals.ts';
import type { StageState } from './stage.ts';

/** Every port of every protocol is less than this. */
const MAX_PORTS = 200_000;

/** Applies an instruction that makes no layer (FEATURES H47, H49). */
export function dispatchConfig(stage: StageState, instruction: Instruction, context: DispatchContext): void {
  if (instruction.kind === 'onbuild') {
    stage.image.config.onBuild.push(instruction.expression);
    return;
  }
  const text = applyConfig(stage, instruction, context);
  addHistory(stage.image, text, { layer: false }, context.epoch);
}

/** Returns the history text. */
function applyConfig(stage: StageState, instruction: Instruction, context: DispatchContext): string {
  const { config } = stage.image;
  switch (instruction.kind) {
    case 'env':
      return applyEnv(stage, instruction, context);
    case 'label':
      for (const pair of instruction.pairs) {
        checkLegacy(pair, instruction, context);
        config.labels.set(pair.key, pair.value);
      }
      return `LABEL${pairsText(instruction)}`;
    case 'maintainer':
      stage.image.author = instruction.maintainer;
      return `MAINTAINER ${instruction.maintainer}`;
    case 'cmd':
      checkOnce(stage, instruction, context);
      config.cmd = wrapped(stage.image, instruction, context);
      config.argsEscaped = true;
      return `CMD ${quoteList(config.cmd)}`;
    case 'entrypoint':
      checkOnce(stage, instruction, context);
      config.entrypoint = wrapped(stage.image, instruction, context);
      if (!stage.set.has('cmd')) config.cmd = [];
      return `ENTRYPOINT ${quoteList(config.entrypoint)}`;
    case 'healthcheck':
      checkOnce(stage, instruction, context);
      config.healthcheck = instruction.health;
      return `HEALTHCHECK ${healthText(instruction.health)}`;
    case 'expose':
      return applyExpose(stage, instruction, context);
    case 'user':
      setUser(stage, instruction.user);
      return `USER ${instruction.user}`;
    case 'volume':
      return applyVolume(stage.image, instruction.volumes);
    case 'stopsignal':
      checkSignal(instruction.signal);
      config.stopSignal = instruction.signal;
      return `STOPSIGNAL ${instruction.signal}`;
    case 'shell':
      config.shell = instruction.shell;
      return `SHELL [${instruction.shell.join(' ')}]`;
    default:
      throw new BuildError(`${instruction.kind} is no instruction of the image config`);
  }
}

/** Only the last one counts, so the one before is at fault. */
function checkOnce(stage: StageState, instruction: Instruction, context: DispatchContext): void {
  const before = stage.set.get(instruction.kind);
  if (before) context.lint.report(rules.multipleInstructionsDisallowed(instruction.name), before);
  stage.set.set(instruction.kind, instruction.location);
}

function checkLegacy(
  pair: KeyValue,
  { name, location }: InstructionOf<'env'>,
  context: DispatchContext,
): void {
  if (pair.legacy) context.lint.report(rules.legacyKeyValueFormat(name), location);
}

function applyEnv(stage: StageState, instruction: InstructionOf<'env'>, context: DispatchContext): string {
  for (const pair of instruction.pairs) {
    const { key, value } = pair;
    checkLegacy(pair, instruction, context);
    checkSecretName('ENV', key, instruction.location, context.lint);
    stage.state = addEnv(stage.state, key, value);
    setEnv(stage.image.config.env, key, value);
  }
  return `ENV${pairsText(instruction)}`;
}

function pairsText(instruction: InstructionOf<'env'>): string {
  return instruction.pairs.map(({ key, value }) => ` ${key}=${value}`).join('');
}

/** An existing variable keeps its place. */
function setEnv(env: string[], key: string, value: string): void {
  const at = env.findIndex((entry) => isEnvOf(entry, key));
  if (at < 0) env.push(`${key}=${value}`);
  else env[at] = `${key}=${value}`;
}

/** Asked for every pair of variables: no copies. */
function isEnvOf(entry: string, key: string): boolean {
  if (!entry.startsWith(key) || key.includes('=')) return false;
  return entry.length === key.length || entry[key.length] === '=';
}

function applyExpose(
  stage: StageState,
  instruction: InstructionOf<'expose'>,
  context: DispatchContext,
): string {
  const variables = stateVariables(stage.state);
  const written = instruction.ports.flatMap((port) => expandWords(port, variables, context.expansion));
  const ports: string[] = [];
  for (const range of written) {
    ports.push(...exposedPorts(range, (finding) => context.lint.report(finding, instruction.location)));
    if (ports.length > MAX_PORTS) throw new BuildError(`EXPOSE names more than ${MAX_PORTS} ports`);
  }
  for (const port of ports) stage.image.config.exposedPorts.add(port);
  return `EXPOSE [${ports.join(' ')}]`;
}

export function setUser(stage: StageState, user: string): void {
  stage.state = setStateUser(stage.state, user);
  stage.image.config.user = user;
}

function applyVolume(image: Image, volumes: readonly string[]): string {
  if (volumes.includes('')) throw new BuildError('VOLUME specified can not be an empty string');
  for (const volume of volumes) image.config.volumes.add(volume);
  return `VOLUME [${volumes.join(' ')}]`;
}

function healthText(health: Healthcheck): string {
  const fields = [
    `Test:[${health.test.join(' ')}]`,
    `Interval:${formatDuration(health.interval)}`,
    `Timeout:${formatDuration(health.timeout)}`,
    `StartPeriod:${formatDuration(health.startPeriod)}`,
    `StartInterval:${formatDuration(health.startInterval)}`,
    `Retries:${health.retries}`,
  ];
  return `{${fields.join(' ')}}`;
}

function wrapped(
  image: Image,
  { name, command, location }: InstructionOf<'cmd'>,
  context: DispatchContext,
): readonly string[] {
  if (!command.shellForm) return command.words;
  // Who sets a shell wants it.
  if (image.config.shell.length === 0) context.lint.report(rules.jsonArgsRecommended(name), location);
  return withShell(image, command.words);
}

/** Shell form: the words are one argument of the stage's shell. */
export function withShell(image: Image, words: readonly string[]): readonly string[] {
  return [
    ...(image.config.shell.length > 0 ? image.config.shell : defaultShell(image.platform.os)),
    words.join(' '),
  ];
}

function defaultShell(os: string): readonly string[] {
  return os === 'windows' ? ['cmd', '/S', '/C'] : ['/bin/sh', '-c'];
}

/** ARG inside a stage (FEATURES H31). */
export function dispatchArg(
  stage: StageState,
  instruction: InstructionOf<'arg'>,
  context: DispatchContext,
): void {
  const shown = instruction.args.map((arg) => {
    checkSecretName('ARG', arg.key, instruction.location, context.lint);
    const value = argValue(stage, arg, instruction.location, context);
    if (value !== undefined && !SCAN_ARGS.includes(arg.key))
      stage.state = addEnv(stage.state, arg.key, value);
    noteArg(stage, arg, value, instruction.location, context);
    const { value: _, ...declared } = arg;
    stage.args.push(value === undefined ? declared : { ...declared, value });
    return value === undefined ? arg.key : `${arg.key}=${value}`;
  });
  addHistory(stage.image, `ARG ${shown.join(' ')}`, { layer: false }, context.epoch);
}

/** One that only takes over a global ARG is shown as that. */
function noteArg(
  stage: StageState,
  { key, value: written, description }: ArgPair,
  value: string | undefined,
  location: Location,
  context: DispatchContext,
): void {
  const inherited =
    written === undefined && !context.buildArgs.has(key) && context.globalArgs.get(key) !== undefined;
  if (!inherited)
    stage.outline.args.set(key, { name: key, description, value: value ?? '', location, deps: new Set() });
  stage.outline.use([key]);
}

function argValue(
  stage: StageState,
  arg: ArgPair,
  location: Location,
  context: DispatchContext,
): string | undefined {
  const given = context.buildArgs.get(arg.key);
  if (given !== undefined) return given;
  if (arg.value === undefined) return context.globalArgs.get(arg.key);
  const variables = stateVariables(stage.state);
  const check = (missing: ReadonlySet<string>): void =>
    checkVariables(missing, variables, declaredIn(stage), location, context.lint);
  return expandChecked(arg.value, variables, context.expansion, check).text;
}

/** Variables that may be used in the stage though they have no value. */
export function declaredIn(stage: StageState): (name: string) => boolean {
  return (name) => SCAN_ARGS.includes(name) || stage.args.some(({ key }) => key === name);
}
