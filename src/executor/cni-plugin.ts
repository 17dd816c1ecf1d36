import type { Socket } from 'node:net';
import { basename } from 'node:path';
import { BuildError, Code } from '../base/errors.ts';
import { type ChildProcess, findExecutable, spawn } from '../sys/spawn.ts';

/** Answer of a plugin: opaque but for what the next one is given. */
export type CniResult = Readonly<Record<string, unknown>>;

/** One network: plugins that are run in order to set it up, backwards to take it down. */
export interface CniNetwork {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly (Readonly<Record<string, unknown>> & { readonly type: string })[];
}

/** Where and for whom a plugin works. */
export interface CniCall {
  readonly containerId: string;
  /** Path of the network namespace. */
  readonly netns: string;
  readonly interfaceName: string;
  /** `CNI_ARGS`. */
  readonly args: Readonly<Record<string, string>>;
}

export interface CniPlugins {
  /** Directories with plugins. */
  readonly dirs: readonly string[];
  /** PATH of the plugins. */
  readonly searchPath: string;
}

const MAX_ANSWER_BYTES = 1024 * 1024;
const PLUGIN_TIMEOUT_MS = 60_000;

/** Parses a configuration list, or a single plugin's configuration. @throws BuildError */
export function parseCniConfig(text: string, path: string): CniNetwork {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw new BuildError(`error parsing CNI configuration ${path}: ${(error as Error).message}`, {
      code: Code.invalidArgument,
    });
  }
  const { name, cniVersion, plugins } = value;
  const list = Array.isArray(plugins) ? plugins : [value];
  for (const plugin of list as Record<string, unknown>[]) {
    if (typeof plugin?.type === 'string' && plugin.type !== '') continue;
    throw new BuildError(`error parsing CNI configuration ${path}: plugin without a type`, {
      code: Code.invalidArgument,
    });
  }
  return {
    name: typeof name === 'string' ? name : '',
    cniVersion: typeof cniVersion === 'string' ? cniVersion : '0.1.0',
    plugins: list as CniNetwork['plugins'],
  };
}

/** Sets `network` up. @throws BuildError with the plugin's own message */
export async function addNetwork(
  plugins: CniPlugins,
  network: CniNetwork,
  call: CniCall,
  signal?: AbortSignal,
): Promise<CniResult | undefined> {
  let result: CniResult | undefined;
  for (const plugin of network.plugins) {
    const answer = await runPlugin(plugins, 'ADD', network, plugin, call, result, signal);
    if (answer) result = answer;
  }
  return result;
}

/** Takes `network` down; what is gone already is no error to a plugin. */
export async function deleteNetwork(
  plugins: CniPlugins,
  network: CniNetwork,
  call: CniCall,
  result: CniResult | undefined,
): Promise<void> {
  for (const plugin of [...network.plugins].reverse())
    await runPlugin(plugins, 'DEL', network, plugin, call, result, undefined);
}

async function runPlugin(
  { dirs, searchPath }: CniPlugins,
  command: 'ADD' | 'DEL',
  network: CniNetwork,
  plugin: CniNetwork['plugins'][number],
  call: CniCall,
  previous: CniResult | undefined,
  signal: AbortSignal | undefined,
): Promise<CniResult | undefined> {
  const file = findExecutable(plugin.type, dirs.join(':'));
  if (!file)
    throw new BuildError(`failed to find plugin ${JSON.stringify(plugin.type)} in path [${dirs.join(' ')}]`);
  const config = {
    ...plugin,
    name: network.name,
    cniVersion: network.cniVersion,
    ...(previous ? { prevResult: previous } : {}),
  };
  const env: Record<string, string> = {
    PATH: searchPath,
    CNI_COMMAND: command,
    CNI_CONTAINERID: call.containerId,
    CNI_NETNS: call.netns,
    CNI_IFNAME: call.interfaceName,
    CNI_PATH: dirs.join(':'),
    CNI_ARGS: Object.entries(call.args)
      .map(([name, value]) => `${name}=${value}`)
      .join(';'),
  };
  const { code, out, err } = await talk(file, env, JSON.stringify(config), signal);
  if (code === 0) return out.trim() === '' ? undefined : (JSON.parse(out) as CniResult);
  throw new BuildError(
    `plugin type=${JSON.stringify(plugin.type)} failed (${command.toLowerCase()}): ${pluginMessage(out, err, code)}`,
  );
}

function pluginMessage(out: string, err: string, code: number): string {
  try {
    const { msg, details } = JSON.parse(out) as { msg?: string; details?: string };
    if (msg) return details ? `${msg}; ${details}` : msg;
  } catch {
    // Not the error object of the specification: what it printed has to do.
  }
  return err.trim() || out.trim() || `exit status ${code}`;
}

async function talk(
  file: string,
  env: Readonly<Record<string, string>>,
  input: string,
  signal: AbortSignal | undefined,
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  signal?.throwIfAborted();
  const child = spawn({
    file,
    args: [basename(file)],
    env,
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'pipe',
    setsid: true,
  });
  const kill = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(kill, PLUGIN_TIMEOUT_MS);
  signal?.addEventListener('abort', kill, { once: true });
  try {
    // It may end without reading its input.
    child.stdin?.on('error', () => {}).end(input);
    const [out, err] = await Promise.all([readAll(child.stdout, child), readAll(child.stderr, child)]);
    const { code } = await child.exited;
    signal?.throwIfAborted();
    return { code, out, err };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', kill);
    child.stdin?.destroy();
  }
}

async function readAll(stream: Socket | undefined, child: ChildProcess): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream ?? []) {
    size += (chunk as Uint8Array).length;
    if (size > MAX_ANSWER_BYTES) child.kill('SIGKILL');
    else chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks).toString();
}
