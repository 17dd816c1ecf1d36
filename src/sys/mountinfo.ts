import { readFileSync } from 'node:fs';

/** One line of /proc/<pid>/mountinfo (proc(5)). */
export interface MountInfo {
  readonly id: number;
  readonly parent: number;
  readonly major: number;
  readonly minor: number;
  /** The part of the file system that is mounted. */
  readonly root: string;
  readonly mountPoint: string;
  readonly options: readonly string[];
  /** `shared:1`, `master:2`, … */
  readonly optional: readonly string[];
  readonly fsType: string;
  readonly source: string;
  readonly superOptions: readonly string[];
}

export function parseMountInfo(text: string): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    if (dash < 0) continue;
    const [major, minor] = (fields[2] ?? '').split(':').map(Number);
    mounts.push({
      id: Number(fields[0]),
      parent: Number(fields[1]),
      major: major ?? 0,
      minor: minor ?? 0,
      root: unescapeOctal(fields[3] ?? ''),
      mountPoint: unescapeOctal(fields[4] ?? ''),
      options: (fields[5] ?? '').split(','),
      optional: fields.slice(6, dash),
      fsType: unescapeOctal(fields[dash + 1] ?? ''),
      source: unescapeOctal(fields[dash + 2] ?? ''),
      superOptions: unescapeOctal(fields[dash + 3] ?? '').split(','),
    });
  }
  return mounts;
}

/** The mounts that this thread sees, in mount order. */
export function readMountInfo(): MountInfo[] {
  return parseMountInfo(readFileSync('/proc/thread-self/mountinfo', 'utf8'));
}

/** Mounts at or below `dir`, deepest and latest first: the order to unmount them in. */
export function mountsUnder(dir: string, mounts = readMountInfo()): MountInfo[] {
  const prefix = dir.endsWith('/') ? dir : `${dir}/`;
  return mounts.filter((m) => m.mountPoint === dir || m.mountPoint.startsWith(prefix)).reverse();
}

function unescapeOctal(field: string): string {
  if (!field.includes('\\')) return field;
  const bytes = Buffer.from(field);
  const out = Buffer.alloc(bytes.length);
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    const octal = bytes[i] === 0x5c ? /^[0-7]{3}$/.exec(bytes.toString('latin1', i + 1, i + 4)) : null;
    if (octal) i += 3;
    out[length++] = octal ? Number.parseInt(octal[0], 8) : bytes[i]!;
  }
  return out.toString('utf8', 0, length);
}
