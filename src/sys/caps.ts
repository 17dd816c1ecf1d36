import { readFileSync } from 'node:fs';

/** Capability names by number (linux/capability.h), without the `CAP_` prefix. */
export const CAPABILITIES: readonly string[] = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
];

/** Capabilities of this process, `CAP_CHOWN` and so on; `bounding` is what a child can ever have. */
export function processCapabilities(set: 'effective' | 'bounding'): string[] {
  const field = set === 'effective' ? 'CapEff' : 'CapBnd';
  const hex = new RegExp(`^${field}:\\s*([0-9a-f]+)`, 'm').exec(
    readFileSync('/proc/self/status', 'utf8'),
  )?.[1];
  const bits = BigInt(`0x${hex ?? '0'}`);
  return CAPABILITIES.filter((_, number) => (bits >> BigInt(number)) & 1n).map((name) => `CAP_${name}`);
}
