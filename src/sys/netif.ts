import { closeSync, existsSync } from 'node:fs';
import { cfunc, check } from './ffi.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SIOCSIFFLAGS = 0x8914;
const SIOCBRDELBR = 0x89a1;
const IFNAME_BYTES = 16;
const IFREQ_BYTES = 40;

const socketCall = cfunc<[number, number, number]>('socket', 'int', ['int', 'int', 'int']);
const ioctlCall = cfunc<[number, number, Uint8Array]>('ioctl', 'int', ['int', 'ulong', 'void *']);

/** True when this network namespace has an interface of that name. */
export function interfaceExists(name: string): boolean {
  return existsSync(`/sys/class/net/${name}`);
}

/** Takes a bridge down and removes it; none of that name is no error. @throws SystemError */
export function deleteBridge(name: string): void {
  if (!interfaceExists(name)) return;
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(name.slice(0, IFNAME_BYTES - 1));
  const fd = check(socketCall(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'socket');
  try {
    // All flags off: an interface that is up cannot be removed.
    check(ioctlCall(fd, SIOCSIFFLAGS, request), 'ioctl', name);
    check(ioctlCall(fd, SIOCBRDELBR, request), 'ioctl', name);
  } finally {
    closeSync(fd);
  }
}
