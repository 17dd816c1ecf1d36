import { closeSync, readSync } from 'node:fs';
import { BuildError } from '../base/errors.ts';
import type { Rootfs } from '../sys/rootfs.ts';

/** Ids of a container's process. */
export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
  /** The primary group first unless it is among the supplementary ones anyway. */
  readonly additionalGids: readonly number[];
}

const MAX_FILE_BYTES = 10 * 1024 * 1024;
const MAX_ID = 0xffff_ffff;

/**
 * Finds `user[:group]`, names or ids, in the root's /etc/passwd and /etc/group (FEATURES G7). '' is root.
 * @throws BuildError for a name that is not there
 */
export function lookUpUser(root: Rootfs, spec: string | undefined): ProcessUser {
  const [userPart = '', groupPart = ''] = (spec || '0').split(':', 2);
  const plainUid = plainId(userPart);
  const plainGid = plainId(groupPart);
  if (plainUid !== undefined && plainGid !== undefined) return withPrimary(plainUid, plainGid, []);
  try {
    return find(root, userPart, groupPart);
  } catch (error) {
    if (!spec) return withPrimary(0, 0, []);
    throw error;
  }
}

function withPrimary(uid: number, gid: number, groups: readonly number[]): ProcessUser {
  return { uid, gid, additionalGids: groups.includes(gid) ? groups : [gid, ...groups] };
}

/** An id as digits, or `root`. */
function plainId(text: string): number | undefined {
  return text === 'root' ? 0 : numeric(text);
}

function numeric(text: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined;
  const id = Number(text);
  return id <= MAX_ID ? id : undefined;
}

function find(root: Rootfs, userPart: string, groupPart: string): ProcessUser {
  const uidPart = numeric(userPart);
  let uid = uidPart ?? 0;
  let gid = 0;
  let name: string | undefined;
  for (const fields of lines(root, '/etc/passwd')) {
    const id = Number(fields[2] ?? 0);
    const matches =
      userPart === '' ? id === 0 : uidPart === undefined ? fields[0] === userPart : id === uidPart;
    if (!matches) continue;
    name = fields[0];
    uid = id;
    gid = Number(fields[3] ?? 0) || 0;
    break;
  }
  if (name === undefined && userPart !== '' && uidPart === undefined)
    throw new BuildError(`unable to find user ${userPart}: no matching entries in passwd file`);
  if (groupPart !== '') return withPrimary(uid, findGroup(root, groupPart), []);
  const groups: number[] = [];
  if (name) {
    for (const fields of lines(root, '/etc/group'))
      if ((fields[3] ?? '').split(',').includes(name)) groups.push(Number(fields[2] ?? 0));
  }
  return withPrimary(uid, gid, groups);
}

function findGroup(root: Rootfs, groupPart: string): number {
  const gidPart = numeric(groupPart);
  for (const fields of lines(root, '/etc/group')) {
    const id = Number(fields[2] ?? 0);
    if (gidPart === undefined ? fields[0] === groupPart : id === gidPart) return id;
  }
  if (gidPart === undefined)
    throw new BuildError(`unable to find group ${groupPart}: no matching entries in group file`);
  return gidPart;
}

/** Fields of the lines of a file like passwd(5); nothing when there is no such file. */
function lines(root: Rootfs, path: string): string[][] {
  let fd: number;
  try {
    fd = root.openFile(path);
  } catch {
    // Images without users are usual; what is not a regular file counts as none.
    return [];
  }
  try {
    const data = Buffer.allocUnsafe(64 * 1024);
    let text = '';
    for (;;) {
      const length = readSync(fd, data, 0, data.length, null);
      if (length === 0) break;
      text += data.toString('latin1', 0, length);
      if (text.length > MAX_FILE_BYTES)
        throw new BuildError(`${JSON.stringify(path)} exceeds ${MAX_FILE_BYTES} bytes`);
    }
    return Buffer.from(text, 'latin1')
      .toString('utf8')
      .split('\n')
      .filter((line) => line.trim() !== '' && !line.trim().startsWith('#'))
      .map((line) => line.trim().split(':'));
  } finally {
    closeSync(fd);
  }
}
