import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../base/log.ts';
import { detachUnder } from '../sys/mount.ts';
import { killCgroup } from './cgroup.ts';
import { deleteContainer, type Runtime } from './runtime.ts';
import { removePlace } from './submounts.ts';

/** Files and directories of a bundle; what is mounted on one is never entered. */
export const BUNDLE_FILES = ['config.json', 'hosts', 'runtime.log', 'pid', 'rootfs'];
/** Of the further processes of a container. */
const EXEC_FILE = /^exec-\d+\.(?:json|log|pid)$/;

/**
 * Kills containers that an earlier daemon left running, removes their cgroups and mounts, and clears away
 * their bundles. Each bundle is tried on its own; what fails is logged and tried again at the next start.
 */
export async function recoverContainers(runtime: Runtime, dir: string, log: Logger): Promise<void> {
  const ids = readdirSync(dir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && /^[A-Za-z0-9]+$/.test(entry.name) && entry.name !== 'state')
    .map((entry) => entry.name);
  const left = readdirSync(runtime.stateDir).filter((name) => /^[A-Za-z0-9]+$/.test(name));
  for (const id of new Set([...ids, ...left])) {
    try {
      log.warn('removing a container left by an earlier run', { id });
      await deleteContainer(runtime, id);
      const cgroup = cgroupOf(join(dir, id));
      if (cgroup) await killCgroup(cgroup);
      detachUnder(join(dir, id));
      removeLeftBundle(join(dir, id));
    } catch (error) {
      log.error('could not remove a left container', { id, error });
    }
  }
}

function cgroupOf(bundle: string): string | undefined {
  try {
    const spec = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8')) as {
      linux?: { cgroupsPath?: string };
    };
    return spec.linux?.cgroupsPath;
  } catch {
    // The daemon ended before it had written it: nothing ran.
    return undefined;
  }
}

function removeLeftBundle(bundle: string): void {
  const execFiles = listOrNone(bundle).filter((name) => EXEC_FILE.test(name));
  for (const name of [...BUNDLE_FILES, ...execFiles]) removePlace(join(bundle, name));
  const mounts = join(bundle, 'mounts');
  for (const name of listOrNone(mounts)) removePlace(join(mounts, name));
  removePlace(mounts);
  removePlace(bundle);
}

function listOrNone(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    // Not made yet.
    return [];
  }
}
