import { release } from 'node:os';
import { ALLOWED, ALLOWED_BY_ARCH, ALLOWED_BY_CAPABILITY, ALLOWED_SINCE_4_8 } from './seccomp-data.ts';

/** `linux.seccomp` of the runtime spec. */
export interface Seccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly {
    readonly index: number;
    readonly value: number;
    readonly valueTwo?: number;
    readonly op: string;
  }[];
}

const ARCHITECTURES: Readonly<Record<string, readonly string[]>> = {
  x64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
  s390x: ['SCMP_ARCH_S390X', 'SCMP_ARCH_S390'],
  riscv64: ['SCMP_ARCH_RISCV64'],
  loong64: ['SCMP_ARCH_LOONGARCH64'],
};

const EPERM = 1;
const ENOSYS = 38;
const AF_ALG = 38;
const AF_VSOCK = 40;
/** Flags of clone(2) that make namespaces. */
const CLONE_NAMESPACES = 0x7e02_0000;
/** PER_LINUX, PER_LINUX32 and UNAME26 variants, and the query. */
const PERSONALITIES = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

const words = (text: string | undefined): string[] => (text ?? '').split(/\s+/).filter(Boolean);
const allow = (names: readonly string[]): SeccompRule => ({ names, action: 'SCMP_ACT_ALLOW' });
const allowWhen = (
  name: string,
  index: number,
  op: string,
  value: number,
  valueTwo?: number,
): SeccompRule => ({
  ...allow([name]),
  args: [{ index, value, op, ...(valueTwo === undefined ? {} : { valueTwo }) }],
});

/** The default profile for a process that may have `capabilities` (`CAP_CHOWN`, …) on this kernel. */
export function defaultSeccomp(
  capabilities: readonly string[],
  arch: string = process.arch,
  kernel: string = release(),
): Seccomp {
  const names = new Set([...words(ALLOWED), ...words(ALLOWED_BY_ARCH[arch])]);
  if (atLeast(kernel, 4, 8)) for (const name of words(ALLOWED_SINCE_4_8)) names.add(name);
  for (const capability of capabilities)
    for (const name of words(ALLOWED_BY_CAPABILITY[capability])) names.add(name);
  const rules = [
    allow([...names].sort()),
    // AF_VSOCK reaches the hypervisor and AF_ALG kernel crypto: every other family is allowed.
    allowWhen('socket', 0, 'SCMP_CMP_LT', AF_ALG),
    allowWhen('socket', 0, 'SCMP_CMP_EQ', AF_ALG + 1),
    allowWhen('socket', 0, 'SCMP_CMP_GT', AF_VSOCK),
    ...PERSONALITIES.map((value) => allowWhen('personality', 0, 'SCMP_CMP_EQ', value)),
  ];
  if (!capabilities.includes('CAP_SYS_ADMIN')) {
    const flagsIndex = arch === 's390x' ? 1 : 0;
    rules.push(allowWhen('clone', flagsIndex, 'SCMP_CMP_MASKED_EQ', CLONE_NAMESPACES, 0));
    // Its flags lie in memory, out of the filter's sight: C libraries fall back to clone.
    rules.push({ names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS });
  }
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    architectures: ARCHITECTURES[arch] ?? [],
    syscalls: rules,
  };
}

function atLeast(kernel: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10));
  return a > major || (a === major && b >= minor);
}
