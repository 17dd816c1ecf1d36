import { BuildError } from '../../base/errors.ts';
import { type MountOptions, run } from '../../llb/exec.ts';
import { mkfile } from '../../llb/file.ts';
import { type CDIDevice, type LinuxResources, NetMode, SecurityMode } from '../../llb/ops.ts';
import {
  addExtraHost,
  addUlimit,
  type State,
  setCgroupParent,
  setNetwork,
  setSecurity,
} from '../../llb/state.ts';
import { encodeText } from '../bytes.ts';
import type { Variables } from '../expand.ts';
import { parseMount } from '../instructions/mount.ts';
import type { RunInstruction, RunMount } from '../instructions/types.ts';
import { withShell } from './config.ts';
import type { DispatchContext } from './dispatch.ts';
import { type RunCommand, runCommand, scriptDirectory } from './heredoc-command.ts';
import { addHistory, runHistory } from './history.ts';
import { commandDescription, inlineFile, locationOf, stateVariables } from './llb.ts';
import { runMounts } from './mounts.ts';
import { instructionText, vertexName } from './names.ts';
import type { ConvertOptions } from './options.ts';
import { proxyOf } from './proxy.ts';
import type { StageState } from './stage.ts';
import { layered, VariableList } from './variables.ts';

/** RUN (FEATURES H34). */
export function dispatchRun(
  stage: StageState,
  instruction: RunInstruction,
  sources: readonly StageState[],
  word: (text: string) => string,
  context: DispatchContext,
): void {
  const { options } = context;
  const mounts = instruction.mounts.map((value) => parseMount(value, word));
  // A command can reach everything.
  stage.paths.add('/');
  const command = runCommand(instruction, stage.image.platform.os);
  const words = instruction.command.shellForm ? withShell(stage.image, command.words) : command.words;
  const made = runMounts(stage, mounts, sources, instruction.location, context);
  const variables = stateVariables(stage.state);
  const proxy = proxyOf(context.buildArgs);
  stage.state = run(stage.state, {
    args: words,
    ...(proxy ? { proxyEnv: proxy } : {}),
    with: (state) => stepSettings(state, instruction, options),
    mounts: [...scriptMount(stage, command), ...made.mounts, ...sharedMemory(options)],
    secrets: made.secrets,
    ssh: made.ssh,
    cdiDevices: devices(instruction, options),
    constraints: {
      description: commandDescription(instruction.code),
      customName: runName(stage, instruction, command, mounts, variables, context),
      locations: locationOf(options.sourceMap, instruction.location),
      ...(stage.ignoreCache ? { ignoreCache: true } : {}),
      ...resources(options),
    },
  }).root;
  addHistory(
    stage.image,
    `RUN ${runHistory(words, stage.args, variables)}`,
    { layer: true, suffix: true },
    context.epoch,
  );
}

const NETWORKS = { none: NetMode.NONE, host: NetMode.HOST } as const;

function scriptMount(stage: StageState, command: RunCommand): readonly MountOptions[] {
  const { script } = command;
  if (!script) return [];
  const state = inlineFile(mkfile(`/${script.name}`, 0o755, encodeText(script.data)), stage.platform);
  return [{ dest: scriptDirectory, from: state, selector: '/', readonly: true }];
}

/** Secrets are shown as asterisks. */
function runName(
  stage: StageState,
  instruction: RunInstruction,
  command: RunCommand,
  mounts: readonly RunMount[],
  variables: Variables,
  context: DispatchContext,
): string {
  const hidden = mounts.flatMap(({ type, env }) =>
    type === 'secret' && env !== undefined ? [[env, '****'] as const] : [],
  );
  const shown = hidden.length === 0 ? variables : layered(new VariableList(hidden), variables);
  const text = instructionText(instruction.code + command.note, shown, {
    ...context.expansion,
    rawQuotes: true,
    keepUnset: true,
  });
  const platform = context.options.multiPlatform ? stage.state.platform : undefined;
  return vertexName(stage, text, platform, variables);
}

/** Settings of this step alone. */
function stepSettings(state: State, instruction: RunInstruction, options: ConvertOptions): State {
  const { caps } = options;
  const insecure = instruction.security === 'insecure';
  let next = setSecurity(state, insecure ? SecurityMode.INSECURE : SecurityMode.SANDBOX);
  if (instruction.network !== 'default') next = setNetwork(next, NETWORKS[instruction.network]);
  if (caps?.has('exec.meta.ulimit')) next = options.ulimits.reduce(addUlimit, next);
  for (const { host, ip } of options.extraHosts) next = addExtraHost(next, host, ip);
  const useParent = options.cgroupParent !== '' && caps?.has('exec.meta.cgroup.parent');
  return useParent ? setCgroupParent(next, options.cgroupParent) : next;
}

function devices(instruction: RunInstruction, options: ConvertOptions): readonly CDIDevice[] {
  if (!options.caps?.has('exec.meta.cdi')) return [];
  if (instruction.devices.length > 0 && !options.labs)
    throw new BuildError('device feature is only supported in Dockerfile frontend 1.14.0-labs or later', {
      hint: 'start the Dockerfile with the line "# syntax=docker/dockerfile:1-labs"',
    });
  return instruction.devices.map(({ name, required }) => ({ name, optional: !required }));
}

function resources(options: ConvertOptions): { linuxResources?: LinuxResources } {
  const limits = options.resources;
  return limits && options.caps?.has('exec.meta.linux.resources') ? { linuxResources: limits } : {};
}

function sharedMemory(options: ConvertOptions): readonly MountOptions[] {
  if (options.shmSize <= 0n || !options.caps?.has('exec.mount.tmpfs.size')) return [];
  return [{ dest: '/dev/shm', tmpfs: { sizeBytes: options.shmSize } }];
}
