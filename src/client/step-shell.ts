import { posix } from 'node:path';
import { BuildError } from '../base/errors.ts';
import type { ExecOp, Mount } from '../llb/ops.ts';
import { type InitMessage, type LLBBridgeDefinition, NewContainerRequest } from '../pb/gateway.ts';
import type { ProcessIo } from '../gateway/process-types.ts';
import { runProcess } from '../gateway/process.ts';
import type { CallOptions, Client as TypedClient } from '../rpc/types.ts';
import type { FailedStep } from './failed-step.ts';

const CONTAINER = 'debugshell'; // letters and numbers only, for other daemons
const DEFAULT_SHELL = '/bin/sh';
const SHELLS: ReadonlySet<string> = new Set(['sh', 'ash', 'bash', 'dash', 'ksh', 'zsh', 'fish']);

/** A step that failed and can be looked into until the build goes on. */
export interface StepShell {
  readonly step: FailedStep;
  /** Which program it runs when none is named. */
  readonly program: string;
  /**
   * Runs a program where the step failed: in its trees as it left them, with its mounts, environment, user and
   * directory. What it changes is dropped. @returns its exit code
   * @throws BuildError when it cannot be run, as where the trees hold no such program
   */
  run(io: ProcessIo, args?: readonly string[]): Promise<number>;
}

/** undefined for a step whose trees nothing can run in. */
export function shellIn(
  step: FailedStep,
  bridge: TypedClient<typeof LLBBridgeDefinition>,
  options: CallOptions,
): StepShell | undefined {
  const container = containerOf(step);
  if (!container) return undefined;
  const program = shellOf(step.exec);
  return {
    step,
    program,
    run: async (io, args = [program]) => {
      await bridge.newContainer(container, options);
      try {
        return await runProcess(bridge, initOf(step.exec, args), io, options);
      } finally {
        // The build's end takes what is left, also when the connection is gone.
        await bridge.releaseContainer({ ContainerID: CONTAINER }, options).catch(() => {});
      }
    },
  };
}

function containerOf(step: FailedStep): NewContainerRequest | undefined {
  const { exec, mountIds, action } = step;
  const base = { ContainerID: CONTAINER, ...(step.os === '' ? {} : { platform: { OS: step.os } }) };
  if (exec && mountIds.length >= exec.mounts.length) {
    const mounts = exec.mounts.map((mount, i) => mountOf(mount, mountIds[i] ?? ''));
    return NewContainerRequest.fromPartial({
      ...base,
      Mounts: mounts,
      Network: exec.network,
      extraHosts: exec.meta?.extraHosts ?? [],
      hostname: exec.meta?.hostname ?? '',
    });
  }
  const written = action === undefined ? '' : (mountIds[action] ?? '');
  return written === ''
    ? undefined
    : NewContainerRequest.fromPartial({ ...base, Mounts: [{ dest: '/', resultID: written }] });
}

function mountOf(mount: Mount, resultID: string) {
  const { dest, selector, readonly, mountType, TmpfsOpt, cacheOpt, secretOpt, SSHOpt } = mount;
  return {
    dest,
    selector,
    // Whoever looks for the cause may want to try something; it is dropped in any case.
    readonly: dest === '/' ? false : readonly,
    mountType,
    TmpfsOpt,
    cacheOpt,
    secretOpt,
    SSHOpt,
    resultID,
  };
}

function initOf(exec: ExecOp | undefined, args: readonly string[]): Partial<InitMessage> {
  const { env = [], cwd = '/', user = '', proxyEnv } = exec?.meta ?? {};
  const proxies = Object.entries(proxyEnv ?? {}).flatMap(([key, value]) => {
    const name = `${key.replace(/Proxy$/, '')}_proxy`;
    return value === '' ? [] : [`${name}=${value}`, `${name.toUpperCase()}=${value}`];
  });
  const Meta = { args: [...args], env: [...env, ...proxies], cwd, user } as NonNullable<InitMessage['Meta']>;
  const secretenv = exec?.secretenv ?? [];
  return { ContainerID: CONTAINER, Meta, Security: exec?.security ?? 0, secretenv };
}

/** The shell that the step was run by, where it was. */
function shellOf(exec: ExecOp | undefined): string {
  const [program = ''] = exec?.meta?.args ?? [];
  return SHELLS.has(posix.basename(program)) ? program : DEFAULT_SHELL;
}

/** Why there is no shell. */
export function noShell({ error, exec }: FailedStep): BuildError {
  const why = exec ? 'the step failed before its trees were there' : 'the step that failed runs no program';
  return new BuildError(`no shell for ${error.message}: ${why}`);
}
