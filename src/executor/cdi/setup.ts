import { existsSync, globSync, mkdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { Socket } from 'node:net';
import { BuildError } from '../../base/errors.ts';
import { findExecutable, spawn } from '../../sys/spawn.ts';
import { writeAtomically } from '../resolvconf.ts';

/** Told what a setup does and says. */
export type SetupProgress = (text: string) => void;

/** Makes the specification of a kind of devices when a step asks for one (FEATURES A52). */
export interface DeviceSetup {
  /** `vendor/class`. */
  readonly kind: string;
  /** Why it cannot work on this machine; undefined when it can. */
  readonly problem: () => string | undefined;
  /** Writes a specification into a directory where it is found. Aborting ends it. */
  readonly run: (progress: SetupProgress, signal: AbortSignal) => Promise<void>;
}

export interface SetupMachine {
  /** Where specifications are written. */
  readonly specDir: string;
  /** Colon-separated, where tools are found. */
  readonly searchPath: string;
  /** Root of the machine's files; `/` but in tests. */
  readonly root: string;
  readonly kernel: string;
}

/** Longest specification taken from a tool. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
const NVIDIA_VENDOR = '0x10de';
/** Of the virtual GPU of Docker Desktop's machine. */
const VENUS_SPEC = {
  cdiVersion: '0.6.0',
  kind: 'docker.com/gpu',
  annotations: { 'cdi.device.name': 'Virtio-GPU Venus (Docker Desktop)' },
  devices: [
    {
      name: 'venus',
      containerEdits: { deviceNodes: [{ path: '/dev/dri/card0' }, { path: '/dev/dri/renderD128' }] },
    },
  ],
};

export const SETUP_KINDS = ['nvidia.com/gpu', 'docker.com/gpu'] as const;

/** The setups of the kinds asked for. */
export function deviceSetups(
  kinds: readonly string[],
  {
    specDir,
    searchPath,
    root = '/',
    kernel = release(),
  }: Partial<SetupMachine> & Omit<SetupMachine, 'root' | 'kernel'>,
): DeviceSetup[] {
  const machine = { specDir, searchPath, root, kernel };
  return [nvidia(machine), venus(machine)].filter(({ kind }) => kinds.includes(kind));
}

function venus({ specDir, root, kernel }: SetupMachine): DeviceSetup {
  return {
    kind: 'docker.com/gpu',
    problem: () => {
      if (!kernel.includes('linuxkit')) return 'docker.com/gpu currently requires a linuxkit kernel';
      const missing = ['renderD128', 'card0'].find((name) => !existsSync(join(root, 'dev/dri', name)));
      return missing && `no device /dev/dri/${missing}: is Docker VMM the hypervisor?`;
    },
    run: async () => writeAtomically(join(specDir, 'venus.json'), `${JSON.stringify(VENUS_SPEC)}\n`),
  };
}

/** What is on the machine is described; drivers and tools are the administrator's to install. */
function nvidia({ specDir, searchPath, root }: SetupMachine): DeviceSetup {
  const driver = (): boolean => existsSync(join(root, 'proc/driver/nvidia'));
  const tool = (): string | undefined => findExecutable('nvidia-ctk', searchPath);
  return {
    kind: 'nvidia.com/gpu',
    problem: () => {
      const vendors = globSync(join(root, 'sys/bus/pci/devices/*/vendor'));
      const present =
        driver() ||
        existsSync(join(root, 'dev/dxg')) ||
        vendors.some((file) => readFileSync(file, 'utf8').trim() === NVIDIA_VENDOR);
      return present ? undefined : 'no NVIDIA devices found';
    },
    run: async (progress, signal) => {
      if (!driver() && !existsSync(join(root, 'dev/dxg')))
        throw new BuildError(
          'NVIDIA drivers are required. Try loading NVIDIA kernel module with "modprobe nvidia" command',
        );
      const path = tool();
      if (!path)
        throw new BuildError('nvidia-ctk is not in the PATH of the daemon', {
          hint: "install NVIDIA's container toolkit, or write a CDI specification by hand",
        });
      progress('> nvidia-ctk cdi generate\n');
      const text = await outputOf(path, ['cdi', 'generate'], searchPath, progress, signal);
      if (text.trim() === '') throw new BuildError('nvidia-ctk output is empty');
      mkdirSync(specDir, { recursive: true, mode: 0o755 });
      writeAtomically(join(specDir, 'nvidia.yaml'), text);
    },
  };
}

/** Standard output of a program; its standard error goes to `progress`. */
async function outputOf(
  file: string,
  args: readonly string[],
  searchPath: string,
  progress: SetupProgress,
  signal: AbortSignal,
): Promise<string> {
  signal.throwIfAborted();
  const child = spawn({
    file,
    args: [file, ...args],
    env: { PATH: searchPath },
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const onAbort = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const chunks: Buffer[] = [];
    let size = 0;
    const read = async (stream: Socket | undefined, take: (chunk: Buffer) => void): Promise<void> => {
      for await (const chunk of stream ?? []) take(chunk as Buffer);
    };
    await Promise.all([
      read(child.stdout, (chunk) => {
        size += chunk.length;
        if (size <= MAX_OUTPUT_BYTES) chunks.push(chunk);
      }),
      read(child.stderr, (chunk) => progress(chunk.toString())),
    ]);
    const { code } = await child.exited;
    signal.throwIfAborted();
    if (code !== 0) throw new BuildError(`nvidia-ctk: exit code: ${code}`);
    if (size > MAX_OUTPUT_BYTES) throw new BuildError(`nvidia-ctk: more than ${MAX_OUTPUT_BYTES} bytes`);
    return Buffer.concat(chunks).toString();
  } finally {
    signal.removeEventListener('abort', onAbort);
    for (const stream of [child.stdout, child.stderr]) stream?.destroy();
  }
}
