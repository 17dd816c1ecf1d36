import { existsSync, readdirSync } from 'node:fs';

/** `linux.devices[]` of the runtime spec. */
export interface SpecDevice {
  readonly path: string;
  readonly type: 'b' | 'c';
  readonly major: number;
  readonly minor: number;
}

const NODES: readonly (readonly [path: string, major: number, minor: number])[] = [
  ['/dev/kmsg', 1, 11],
  ['/dev/cuse', 10, 203],
  ['/dev/fuse', 10, 229],
  ['/dev/kvm', 10, 232],
  ['/dev/net/tun', 10, 200],
  ['/dev/loop-control', 10, 237],
];
const LOOP_MAJOR = 7;
/** Loop devices beyond the first free one. */
const SPARE_LOOPS = 7;

/** What an insecure step finds in /dev beside the runtime's own nodes (FEATURES G5). */
export function insecureDevices(): SpecDevice[] {
  const devices: SpecDevice[] = NODES.map(([path, major, minor]) => ({ path, type: 'c', major, minor }));
  for (let minor = 0; minor <= firstFreeLoop() + SPARE_LOOPS; minor++)
    devices.push({ path: `/dev/loop${minor}`, type: 'b', major: LOOP_MAJOR, minor });
  return devices;
}

function firstFreeLoop(): number {
  const used = new Set(
    existsSync('/sys/block')
      ? readdirSync('/sys/block').filter((name) => existsSync(`/sys/block/${name}/loop/backing_file`))
      : [],
  );
  let minor = 0;
  while (used.has(`loop${minor}`)) minor++;
  return minor;
}
