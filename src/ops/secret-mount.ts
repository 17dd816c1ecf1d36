import { randomUUID } from 'node:crypto';
import { chmodSync, chownSync, mkdtempSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, Code, hasCode, invalidArgument } from '../base/errors.ts';
import type { Mount as LlbMount, SecretEnv } from '../llb/ops.ts';
import { mountAll, umount } from '../sys/mount.ts';
import type { Mountable } from '../executor/types.ts';

/** Fetches a secret from the first session that has it; `notFound` when none does. */
export type GetSecret = (id: string, signal: AbortSignal) => Promise<Uint8Array>;

async function lookUp(id: string, optional: boolean, get: GetSecret, signal: AbortSignal) {
  try {
    return await get(id, signal);
  } catch (error) {
    if (!hasCode(error, Code.notFound) && !hasCode(error, Code.unimplemented)) throw error;
    if (optional) return undefined;
    throw new BuildError(`secret ${id}: not found`, {
      code: Code.notFound,
      cause: error,
      hint: `pass it with --secret id=${id},src=FILE or --secret id=${id},env=NAME`,
    });
  }
}

/** A secret as a file on a private tmpfs (FEATURES G19), or undefined when it is optional and missing. */
export async function secretMount(
  llb: LlbMount,
  options: { readonly get: GetSecret; readonly tmpDir: string; readonly signal: AbortSignal },
): Promise<Mountable | undefined> {
  const opt = llb.secretOpt;
  if (!opt) throw invalidArgument('invalid secret mount options');
  if (opt.ID === '') throw invalidArgument('secret ID missing from mount options');
  const data = await lookUp(opt.ID, opt.optional, options.get, options.signal);
  if (data === undefined) return undefined;
  return { mount: async () => mountSecretFile(data, opt, options.tmpDir) };
}

function mountSecretFile(
  data: Uint8Array,
  owner: { readonly uid: number; readonly gid: number; readonly mode: number },
  tmpDir: string,
): Awaited<ReturnType<Mountable['mount']>> {
  const dir = mkdtempSync(join(tmpDir, 'secret-'));
  const noexec = (owner.mode & 0o111) === 0 ? ['noexec'] : [];
  let mounted = false;
  const release = async (): Promise<void> => {
    if (mounted) umount(dir);
    mounted = false;
    rmdirSync(dir);
  };
  try {
    chmodSync(dir, 0o711);
    const options = ['nodev', 'nosuid', 'mode=0711', ...noexec];
    mountAll([{ type: 'tmpfs', source: 'tmpfs', options }], dir);
    mounted = true;
    const file = join(dir, randomUUID());
    writeFileSync(file, data, { mode: 0o600, flag: 'wx' });
    chownSync(file, owner.uid, owner.gid);
    chmodSync(file, owner.mode & 0o777);
    const mounts = [{ type: 'bind', source: file, options: ['ro', 'rbind', 'nodev', 'nosuid', ...noexec] }];
    return { mounts, release };
  } catch (error) {
    void release();
    throw error;
  }
}

/** `NAME=value` of every secret a step takes by environment; a missing optional one is empty (G19). */
export async function secretEnvironment(
  secrets: readonly SecretEnv[],
  get: GetSecret,
  signal: AbortSignal,
): Promise<string[]> {
  const env: string[] = [];
  for (const secret of secrets) {
    if (secret.ID === '') {
      throw invalidArgument(`secret ID missing for ${JSON.stringify(secret.name)} environment variable`);
    }
    const data = await lookUp(secret.ID, secret.optional, get, signal);
    env.push(`${secret.name}=${data === undefined ? '' : Buffer.from(data).toString()}`);
  }
  return env;
}
