import { closeSync, writeSync } from 'node:fs';
import { type Digest, Digester } from '../base/digest.ts';
import type { ImmutableRef, MutableRef, RefManager, RefMounts } from '../cache/ref.ts';
import { openRootfs } from '../sys/rootfs.ts';

const DEFAULT_PERM = 0o600;

export interface SingleFileServices {
  readonly refs: Pick<RefManager, 'newMutable'>;
  readonly mountLocally: (view: RefMounts) => Promise<{ readonly path: string; release(): Promise<void> }>;
}

export interface SingleFile {
  /** Without slashes. */
  readonly name: string;
  /** 0 = 0600. */
  readonly perm: number;
  readonly uid: number;
  readonly gid: number;
  /** Default: the beginning of 1970. */
  readonly modified?: Date | undefined;
  /** Of the digest that is taken; default sha256. */
  readonly algorithm?: string;
}

/** A tree of one file, and the digest of what was written. The caller owns the ref; an error leaves none. */
export async function makeSingleFile(
  services: SingleFileServices,
  description: string,
  file: SingleFile,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<{ ref: ImmutableRef; digest: Digest }> {
  const mutable = await services.refs.newMutable(undefined, { description }, { signal });
  let digest: Digest;
  try {
    digest = await write(services, mutable, file, body, signal);
  } catch (error) {
    await mutable.release();
    throw error;
  }
  return { ref: await mutable.commit(), digest };
}

async function write(
  services: SingleFileServices,
  mutable: MutableRef,
  { name, perm, uid, gid, modified, algorithm }: SingleFile,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<Digest> {
  const tree = await services.mountLocally(await mutable.mount(false, { signal }));
  try {
    using root = openRootfs(tree.path);
    const digester = new Digester(algorithm);
    const fd = root.createFile(name, perm || DEFAULT_PERM);
    try {
      for await (const chunk of body) {
        digester.update(chunk);
        for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
      }
    } finally {
      closeSync(fd);
    }
    if (uid !== 0 || gid !== 0) root.lchown(name, uid, gid);
    const time = { sec: Math.floor((modified?.getTime() ?? 0) / 1000), nsec: 0 };
    root.utimes(name, time, time);
    return digester.digest();
  } finally {
    await tree.release();
  }
}
