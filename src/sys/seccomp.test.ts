import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileSeccomp } from './seccomp.ts';

const RET = 0x06;

test('a profile becomes a filter program that holds its decisions', { skip: !hasLibrary() }, () => {
  const program = compileSeccomp({
    defaultErrnoRet: 1,
    architectures: process.arch === 'arm64' ? ['SCMP_ARCH_AARCH64'] : ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
    syscalls: [
      { names: ['read', 'no_such_syscall'], action: 'SCMP_ACT_ALLOW' },
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
      {
        names: ['socket'],
        action: 'SCMP_ACT_ALLOW',
        args: [{ index: 0, value: 38, op: 'SCMP_CMP_LT' }],
      },
    ],
  })!;
  assert.equal(program.length % 8, 0);
  const returns = new Set<number>();
  const constants = new Set<number>();
  for (let at = 0; at < program.length; at += 8) {
    if (program.readUInt16LE(at) === RET) returns.add(program.readUInt32LE(at + 4));
    constants.add(program.readUInt32LE(at + 4));
  }
  for (const action of [0x7fff0000, 0x00050001, 0x00050026])
    assert.ok(returns.has(action), action.toString(16));
  assert.ok(constants.has(38));
});

test('a rule that cannot be is refused', { skip: !hasLibrary() }, () => {
  const rule = {
    names: ['read'],
    action: 'SCMP_ACT_ALLOW',
    args: [{ index: 9, value: 0, op: 'SCMP_CMP_EQ' }],
  };
  assert.throws(
    () => compileSeccomp({ defaultErrnoRet: 1, architectures: [], syscalls: [rule] }),
    /seccomp: read/,
  );
});

function hasLibrary(): boolean {
  return compileSeccomp({ defaultErrnoRet: 1, architectures: [], syscalls: [] }) !== undefined;
}
