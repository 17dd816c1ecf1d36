import { closeSync, fstatSync, readSync } from 'node:fs';
import { cfunc, check, loadLibrary } from './ffi.ts';

/** The part of `linux.seccomp` of the runtime spec that is compiled. */
export interface SeccompProfile {
  readonly defaultErrnoRet: number;
  /** `SCMP_ARCH_…`. */
  readonly architectures: readonly string[];
  readonly syscalls: readonly {
    readonly names: readonly string[];
    /** `SCMP_ACT_ALLOW` or `SCMP_ACT_ERRNO`. */
    readonly action: string;
    readonly errnoRet?: number;
    readonly args?: readonly {
      readonly index: number;
      readonly value: number;
      readonly valueTwo?: number;
      readonly op: string;
    }[];
  }[];
}

const ACT_ALLOW = 0x7fff0000;
const ACT_ERRNO = 0x00050000;
const ATTRIBUTE_OPTIMIZE = 8;
/** A tree instead of a chain of comparisons: every system call of the container goes through it. */
const OPTIMIZE_TREE = 2;
const UNKNOWN_SYSCALL = -1;
const OPERATORS: Readonly<Record<string, number>> = {
  SCMP_CMP_NE: 1,
  SCMP_CMP_LT: 2,
  SCMP_CMP_LE: 3,
  SCMP_CMP_EQ: 4,
  SCMP_CMP_GE: 5,
  SCMP_CMP_GT: 6,
  SCMP_CMP_MASKED_EQ: 7,
};
const ARG_BYTES = 24;

const memfdCreate = cfunc<[string, number]>('memfd_create', 'int', ['const char *', 'uint']);
const MFD_CLOEXEC = 1;

/**
 * The filter program of a profile, as the kernel takes it, or undefined without libseccomp. Takes some
 * 15 ms, which a runtime would otherwise spend on every start. @throws Error when a rule is not accepted
 */
export function compileSeccomp(profile: SeccompProfile): Buffer | undefined {
  const lib = loadLibrary('libseccomp.so.2');
  if (!lib) return undefined;
  const init = lib('seccomp_init', 'void *', ['uint']);
  const addArchitecture = lib('seccomp_arch_add', 'int', ['void *', 'uint']);
  const architecture = lib('seccomp_arch_resolve_name', 'uint', ['const char *']);
  const setAttribute = lib('seccomp_attr_set', 'int', ['void *', 'int', 'uint']);
  const exportBpf = lib('seccomp_export_bpf', 'int', ['void *', 'int']);
  const release = lib('seccomp_release', 'int', ['void *']);

  const context = init(ACT_ERRNO | profile.defaultErrnoRet);
  const must = (result: unknown, what: string): void => {
    if (result !== 0) throw new Error(`seccomp: ${what}: error ${String(result)}`);
  };
  const fd = check(memfdCreate('seccomp', MFD_CLOEXEC), 'memfd_create');
  try {
    // An old libseccomp builds chains only.
    setAttribute(context, ATTRIBUTE_OPTIMIZE, OPTIMIZE_TREE);
    for (const name of profile.architectures) {
      const result = addArchitecture(context, architecture(name.replace('SCMP_ARCH_', '').toLowerCase()));
      // The native one is there from the start.
      if (result !== -17) must(result, name);
    }
    addRules(lib, context, profile, must);
    must(exportBpf(context, fd), 'export');
    const program = Buffer.alloc(fstatSync(fd).size);
    readSync(fd, program, 0, program.length, 0);
    return program;
  } finally {
    release(context);
    closeSync(fd);
  }
}

function addRules(
  lib: NonNullable<ReturnType<typeof loadLibrary>>,
  context: unknown,
  profile: SeccompProfile,
  must: (result: unknown, what: string) => void,
): void {
  const addRule = lib('seccomp_rule_add_array', 'int', ['void *', 'uint', 'int', 'uint', 'void *']);
  const resolve = lib('seccomp_syscall_resolve_name', 'int', ['const char *']);
  for (const rule of profile.syscalls) {
    const action = rule.action === 'SCMP_ACT_ALLOW' ? ACT_ALLOW : ACT_ERRNO | (rule.errnoRet ?? 0);
    const args = rule.args ?? [];
    const packed = Buffer.alloc(ARG_BYTES * Math.max(1, args.length));
    for (const [i, arg] of args.entries()) {
      packed.writeUInt32LE(arg.index, ARG_BYTES * i);
      packed.writeUInt32LE(OPERATORS[arg.op]!, ARG_BYTES * i + 4);
      packed.writeBigUInt64LE(BigInt(arg.value), ARG_BYTES * i + 8);
      packed.writeBigUInt64LE(BigInt(arg.valueTwo ?? 0), ARG_BYTES * i + 16);
    }
    for (const name of rule.names) {
      const number = resolve(name);
      // Newer than the library: refused by the default action, as in a runtime.
      if (number !== UNKNOWN_SYSCALL) must(addRule(context, action, number, args.length, packed), name);
    }
  }
}
