import { closeSync, readFileSync } from 'node:fs';
import { errno, invalidArgument } from '../base/errors.ts';
import type { ChownOpt } from '../llb/ops.ts';
import { openRootfs } from '../sys/rootfs.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Largest passwd or group file that is read, bytes. */
const MAX_FILE_BYTES = 8 << 20;

/**
 * Ids of an owner (FEATURES D13). Names are looked up in the trees given; one that is not there counts as 0.
 * undefined keeps what is.
 */
export function resolveOwner(
  owner: ChownOpt | undefined,
  userRoot: string | undefined,
  groupRoot: string | undefined,
): Owner | undefined {
  if (!owner) return undefined;
  let uid = 0;
  let gid = 0;
  const user = owner.user?.user;
  if (user?.$case === 'byID') {
    uid = user.value;
    gid = user.value;
  } else if (user?.$case === 'byName') {
    if (userRoot === undefined) throw invalidArgument('invalid missing user mount');
    const fields = findLine(userRoot, '/etc/passwd', user.value.name);
    uid = numeric(fields?.[2]);
    gid = numeric(fields?.[3]);
  }
  const group = owner.group?.user;
  if (group?.$case === 'byID') gid = group.value;
  else if (group?.$case === 'byName') {
    if (groupRoot === undefined) throw invalidArgument('invalid missing group mount');
    const fields = findLine(groupRoot, '/etc/group', group.value.name);
    if (fields) gid = numeric(fields[2]);
  }
  return { uid, gid };
}

function numeric(text: string | undefined): number {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : 0;
}

function findLine(dir: string, path: string, name: string): string[] | undefined {
  using root = openRootfs(dir);
  let fd: number;
  try {
    fd = root.openFile(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errno(error) ?? '')) return undefined;
    throw error;
  }
  try {
    const text = readFileSync(fd).subarray(0, MAX_FILE_BYTES).toString();
    return text
      .split('\n')
      .map((line) => line.trim().split(':'))
      .find((fields) => fields[0] === name);
  } finally {
    closeSync(fd);
  }
}
