import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostPlatform, type Platform } from '../oci/platform.ts';
import { findExecutable, spawn } from '../sys/spawn.ts';

const PROBE_LIMIT_MS = 5000;
const LOAD_ADDRESS = 0x40_0000;

/** One architecture: its ELF facts, and machine code that calls exit(0), or says by the code how much it can do. */
export interface Probe {
  readonly platforms: readonly Platform[];
  /** e_machine. */
  readonly machine: number;
  readonly bits: 32 | 64;
  readonly bigEndian?: boolean;
  readonly flags?: number;
  readonly code: string;
  /** By exit code, where that tells more than 0 does. */
  readonly answers?: Readonly<Record<number, readonly Platform[]>>;
}

const linux = (architecture: string, variant?: string): Platform => ({
  os: 'linux',
  architecture,
  ...(variant ? { variant } : {}),
});

/** In the order in which they are listed to clients (FEATURES A34). */
export const PROBES: readonly Probe[] = [
  {
    platforms: [linux('amd64')],
    machine: 62,
    bits: 64,
    // cpuid has all that level 2 needs: exit(66), else exit(65)
    code:
      'b8010000000fa281e10122980081f901229800bf410000007511' +
      'b8010000800fa2f6c1017405bf42000000b83c0000000f05',
    answers: { 65: [linux('amd64')], 66: [linux('amd64'), linux('amd64', 'v2')] },
  },
  { platforms: [linux('arm64')], machine: 183, bits: 64, code: 'a80b80d2000080d2010000d4' },
  { platforms: [linux('riscv64')], machine: 243, bits: 64, flags: 4, code: '9308d0051305000073000000' },
  {
    platforms: [linux('ppc64')],
    machine: 21,
    bits: 64,
    bigEndian: true,
    flags: 2,
    code: '380000013860000044000002',
  },
  { platforms: [linux('ppc64le')], machine: 21, bits: 64, flags: 2, code: '010000380000603802000044' },
  { platforms: [linux('s390x')], machine: 22, bits: 64, bigEndian: true, code: 'a72900000a01' },
  { platforms: [linux('386')], machine: 3, bits: 32, code: 'b80100000031dbcd80' },
  {
    platforms: [linux('mips64le')],
    machine: 8,
    bits: 64,
    flags: 0x8000_0000,
    code: 'c2130224000004240c000000',
  },
  {
    platforms: [linux('mips64')],
    machine: 8,
    bits: 64,
    bigEndian: true,
    flags: 0x8000_0000,
    code: '240213c2240400000000000c',
  },
  { platforms: [linux('loong64')], machine: 258, bits: 64, flags: 0x43, code: '0b7481020400800200002b00' },
  {
    platforms: [linux('arm', 'v7'), linux('arm', 'v6')],
    machine: 40,
    bits: 32,
    flags: 0x0500_0200,
    code: '0170a0e30000a0e3000000ef',
  },
];

/**
 * Platforms whose programs this machine runs in containers, natively or by registered emulators: each is tried.
 * @param searchPath colon-separated, where `chroot` is found
 */
export async function probePlatforms(tmpDir: string, searchPath: string): Promise<Platform[]> {
  const dir = mkdtempSync(join(tmpDir, 'probe-'));
  try {
    const chroot = findExecutable('chroot', searchPath);
    const found = await Promise.all(PROBES.map((probe, i) => runs(probe, dir, `/${i}`, chroot)));
    return found.flat();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function runs(
  probe: Probe,
  dir: string,
  name: string,
  chroot: string | undefined,
): Promise<readonly Platform[]> {
  const path = join(dir, name);
  writeFileSync(path, probeProgram(probe));
  chmodSync(path, 0o755);
  const platforms = answerOf(probe, await exitCode([path]));
  if (!chroot || platforms.length === 0 || probe.platforms[0]?.architecture === hostPlatform().architecture)
    return platforms;
  // An emulator that the kernel looks up when it is needed is out of a container's sight.
  return answerOf(probe, await exitCode([chroot, dir, name]));
}

function answerOf({ platforms, answers = { 0: platforms } }: Probe, code: number): readonly Platform[] {
  return answers[code] ?? [];
}

/** -1 when the kernel does not know the format. */
async function exitCode(args: readonly [string, ...string[]]): Promise<number> {
  try {
    const child = spawn({ file: args[0], args, env: {}, stdin: 'null', stdout: 'null', stderr: 'null' });
    const timer = setTimeout(() => child.kill('SIGKILL'), PROBE_LIMIT_MS);
    const { code } = await child.exited;
    clearTimeout(timer);
    return code;
  } catch {
    return -1;
  }
}

/** The smallest static ELF program of one loadable segment around `code`. */
export function probeProgram({
  machine,
  bits,
  bigEndian,
  flags,
  code,
}: Omit<Probe, 'platforms' | 'answers'>): Buffer {
  const body = Buffer.from(code, 'hex');
  const wide = bits === 64;
  const headerSize = wide ? 64 : 52;
  const segmentSize = wide ? 56 : 32;
  const start = headerSize + segmentSize;
  const total = start + body.length;
  const out = Buffer.alloc(total);
  out.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, bigEndian ? 2 : 1, 1]);
  let at = 16;
  const put = (value: number, size: 2 | 4 | 8): void => {
    if (size === 8) {
      if (bigEndian) out.writeBigUInt64BE(BigInt(value), at);
      else out.writeBigUInt64LE(BigInt(value), at);
    } else if (bigEndian) out.writeUIntBE(value, at, size);
    else out.writeUIntLE(value, at, size);
    at += size;
  };
  const word = wide ? 8 : 4;
  put(2, 2); // executable
  put(machine, 2);
  put(1, 4);
  put(LOAD_ADDRESS + start, word);
  put(headerSize, word);
  put(0, word);
  put(flags ?? 0, 4);
  for (const size of [headerSize, segmentSize, 1, 0, 0, 0]) put(size, 2);
  put(1, 4); // load
  if (wide) put(5, 4); // readable and executable
  put(0, word);
  put(LOAD_ADDRESS, word);
  put(LOAD_ADDRESS, word);
  put(total, word);
  put(total, word);
  if (!wide) put(5, 4);
  put(0x1000, word);
  body.copy(out, start);
  return out;
}
